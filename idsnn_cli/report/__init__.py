"""Results into pages: ``inspect`` (checkpoints, layer maps), ``runs``, ``evaluation``; ``html`` is what they share."""
