"""What a run leaves behind: folder, checkpoints, journal."""
