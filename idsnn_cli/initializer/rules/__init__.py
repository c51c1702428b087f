"""The mapping rules: a file holds any number of them, and whatever stands here is found (see ``rulebook.py``).

Recipes and help read these files too, so torch is imported inside the functions.
"""
