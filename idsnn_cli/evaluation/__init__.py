"""Measuring a model. Nothing is imported here, so that the names of the measures are to be had without torch."""
