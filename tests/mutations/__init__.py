"""Planted bugs, each with the test that must turn red."""
