"""Optimizer, learning rate, weight average."""
