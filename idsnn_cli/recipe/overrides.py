"""``section.key=value``: words of a command line that change one value of a recipe, parsed as YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from idsnn_cli.errors import UsageError, did_you_mean
from idsnn_cli.recipe.fields import meant, model_of, owners
from idsnn_cli.recipe.nodes import Fault, Place, Table, dotted, replace_at
from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.recipe.source import MAX_DEPTH, Unreadable, parse_value
from idsnn_cli.text import shorten

_KEY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*", re.ASCII)
_FORM = "An override has the form section.key=value, such as distill.alpha=0.5 or seed=3."

# Keys of a recipe that stand in no section.
TOP_LEVEL = tuple(key for key, field in Recipe.model_fields.items() if not model_of(field.annotation))


@dataclass(frozen=True, slots=True)
class Override:
    """One override: the path of its key, and its value as text."""

    keys: tuple[str, ...]
    text: str
    word: str

    @property
    def place(self) -> Place:
        """What a message says in place of file and line."""
        return Place(f"override '{shorten(self.word)}'")


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """A command's words as RECIPE (None where there is none) and overrides, in their order.

    A word with a ``=`` and no slash before it is an override; any other is RECIPE. Of two overrides of one key the
    later wins, so that a script's own words can be followed by others. Raises :class:`UsageError` for a malformed
    override and for a second RECIPE.
    """
    recipe: str | None = None
    overrides: list[str] = []
    for word in words:
        if is_override(word):
            overrides.append(parse_override(word).word)
        elif recipe is not None:
            raise UsageError(f"two recipes are given: '{shorten(recipe)}' and '{shorten(word)}'", f"Give one. {_FORM}")
        elif not word.strip():
            raise UsageError("RECIPE is empty", "Give the name of a recipe, or the path of a recipe file.")
        else:
            recipe = word
    return recipe, overrides


def is_override(word: str) -> bool:
    """Whether ``word`` is meant as an override."""
    head, equals, _ = word.partition("=")
    return bool(equals) and "/" not in head and os.sep not in head


def parse_override(word: str) -> Override:
    """The key path and value text of ``word``. Raises :class:`UsageError` where its form is wrong."""
    key, equals, text = word.partition("=")
    shown = shorten(word)
    if not equals or not _KEY.fullmatch(key) or key.count(".") >= MAX_DEPTH:
        raise UsageError(f"'{shown}' is not an override", _FORM)
    if key == "extends":
        raise UsageError("extends cannot be given on the command line", "Write it in a recipe file.")
    keys = tuple(key.split("."))
    if len(keys) == 1 and key not in TOP_LEVEL:
        named = [dotted((*home, each)) for each in (key, *meant(key)) for home in owners(each)]
        homes = " or ".join(f"'{each}'" for each in named)
        near = f" Did you mean {homes}?" if homes else did_you_mean(key, TOP_LEVEL)
        raise UsageError(f"override '{shown}' names no section.{near}", _FORM)
    if not text.strip():
        raise UsageError(f"override '{shown}' gives no value", "Write null to unset a key, '' for empty text.")
    return Override(keys, text, word)


def device_words(device: str | None) -> list[str]:
    """The override of the device; none where it is not named."""
    return [] if device is None else [f"runtime.device={device}"]


def measure_words(measures: Sequence[str], timesteps: int | None) -> list[str]:
    """The overrides of what is measured; none where nothing is named."""
    words = [f"eval.measure=[{', '.join(measures)}]"] if measures else []
    return words + ([] if timesteps is None else [f"eval.timesteps={timesteps}"])


def apply_overrides(tree: Table, words: Sequence[str], faults: list[Fault]) -> Table:
    """``tree`` with every override on top, later ones winning; unreadable values are added to ``faults``."""
    for word in words:
        override = parse_override(word)
        try:
            node = parse_value(override.text, override.place, faults)
        except Unreadable as error:
            faults.append(Fault(override.place, ".".join(override.keys), error.fault.text))
        else:
            tree = replace_at(tree, override.keys, node, override.place)
    return tree
