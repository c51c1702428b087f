"""Recipes: the schema, and YAML files, parents and overrides with the place of every fault."""

from idsnn_cli.recipe.dump import ABSENT, Change, changed_keys, changes, dump_mapping, dump_portable, dump_resolved
from idsnn_cli.recipe.library import ShippedRecipe, copy_to, find, shipped
from idsnn_cli.recipe.load import LoadedRecipe, load_recipe, recipe_from_mapping
from idsnn_cli.recipe.overrides import device_words, measure_words, split_words
from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.recipe.variations import Cell, make_cells, name_settings

__all__ = [
    "ABSENT",
    "Cell",
    "Change",
    "LoadedRecipe",
    "Recipe",
    "ShippedRecipe",
    "changed_keys",
    "changes",
    "copy_to",
    "device_words",
    "dump_mapping",
    "dump_portable",
    "dump_resolved",
    "find",
    "load_recipe",
    "make_cells",
    "measure_words",
    "name_settings",
    "recipe_from_mapping",
    "shipped",
    "split_words",
]
