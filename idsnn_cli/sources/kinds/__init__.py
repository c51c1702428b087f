"""The kinds of names beside a path, one file each: ``torchvision.py`` reads ``torchvision:NAME``, ``hf.py`` ``hf://``."""
