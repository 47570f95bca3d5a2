"""What holds for the repository as a whole: floors, speed of starting, documents."""
