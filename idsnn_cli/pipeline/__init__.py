"""The order of the steps, and what each reads and writes in a run directory."""
