"""Losses against a teacher, and the teacher itself."""
