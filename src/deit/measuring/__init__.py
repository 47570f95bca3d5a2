"""What a model is worth: accuracy by head, and the gate before a teacher may teach."""
