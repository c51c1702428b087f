"""The installation and the machine: what is missing. Nothing here needs torch to be imported at all."""
