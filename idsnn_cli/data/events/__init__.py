"""Event data: recordings read, binned to frames of two polarities, and kept as memory maps."""
