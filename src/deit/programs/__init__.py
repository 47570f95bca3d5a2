"""Whole programs: each reads from top to bottom and knows no other."""
