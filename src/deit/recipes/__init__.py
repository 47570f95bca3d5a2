"""What a run consists of, as values."""
