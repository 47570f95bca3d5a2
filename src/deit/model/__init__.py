"""The vision transformer with two tokens, its sizes, and the small convnet."""
