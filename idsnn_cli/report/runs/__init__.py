"""Runs side by side: accuracy, what it took, energy, and the paper's values."""
