"""The steps of a run, one file each: what a step wants, reads, writes, depends on, checks and does."""
