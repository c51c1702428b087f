"""Checkpoints and layer maps: what is in them, as data and as a page."""
