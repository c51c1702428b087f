"""Spiking networks as graphs that other libraries and chips read (NIR): written, read back, and run in numpy."""
