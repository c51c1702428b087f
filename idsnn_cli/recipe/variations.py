"""A grid of runs from one recipe: every combination of the seeds and of the values of the keys that vary."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from idsnn_cli.errors import UsageError
from idsnn_cli.recipe.load import LoadedRecipe, load_recipe
from idsnn_cli.recipe.overrides import parse_override
from idsnn_cli.text import shorten

_FORM = "Give --vary section.key=value,value, such as --vary distill.alpha=0,0.3,0.5."
_LONGEST_NAME = 120

Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid.

    ``name`` is its folder's, ``settings`` what sets it apart as (key, value as text), the seed last; ``overrides`` are
    all that make ``loaded`` of the recipe, in order.
    """

    name: str
    settings: Settings
    overrides: tuple[str, ...]
    loaded: LoadedRecipe


def make_cells(word: str, overrides: Sequence[str], seeds: str | None, vary: Sequence[str]) -> list[Cell]:
    """The runs of ``seeds`` ("0,1,2") times each of ``vary`` ("section.key=value,value"), all of a seed together.

    ``seeds`` are the student's. The images that a subset or a validation split draws and the teacher keep the recipe's
    own seed (``data.seed``, ``teacher.seed``), so that students of all seeds see the same images and one teacher;
    ``vary`` with seed=0,1,2 draws everything anew. Raises :class:`UsageError` for a malformed list, a key or value that
    is given twice, and :class:`RecipeError` where a cell's recipe is wrong.
    """
    axes = [_axis(each) for each in vary]
    keys = [key for key, _ in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--vary {key} is given twice", f"Give all its values at once. {_FORM}")
        if any(parse_override(each).word.partition("=")[0] == key for each in overrides):
            raise UsageError(f"{key} is both an override and varied", "Leave one of them out.")
    pinned: list[str] = []
    if seeds is not None:
        if "seed" in keys or any(each.startswith("seed=") for each in overrides):
            raise UsageError("--seeds and seed=... both say the seed", "Give one of them.")
        base = load_recipe(word, overrides).recipe
        pinned = [
            f"{key}={base.seed}" for key in ("data.seed", "teacher.seed") if _unset(base, key) and key not in keys
        ]
    drawn: list[Settings] = [()] if seeds is None else [(("seed", each),) for each in _seeds(seeds)]
    varied = [[(key, text) for text in texts] for key, texts in axes]
    cells = []
    for draw, chosen in itertools.product(drawn, itertools.product(*varied)):
        settings = (*chosen, *draw)
        words = (*overrides, *pinned, *(f"{key}={text}" for key, text in settings))
        loaded = load_recipe(word, words)
        cells.append(Cell(name_settings(settings), settings, words, loaded))
    _distinct(cells)
    return cells


def _unset(recipe: object, key: str) -> bool:
    section, name = key.split(".")
    return getattr(getattr(recipe, section), name) is None


def _axis(word: str) -> tuple[str, list[str]]:
    override = parse_override(word)
    texts = [text.strip() for text in split_values(override.text)]
    if not all(texts):
        raise UsageError(f"--vary {shorten(word)} has an empty value", _FORM)
    return ".".join(override.keys), texts


def _seeds(text: str) -> list[str]:
    found = [each.strip() for each in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,18}", each) for each in found):
        raise UsageError(f"--seeds is given '{shorten(text)}'", "Give whole numbers with commas: --seeds 0,1,2.")
    return [str(int(each)) for each in found]


def split_values(text: str) -> list[str]:
    """``text`` at its commas, but for those inside brackets, braces and quotes: ``[1,2],[3]`` has two values."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            values.append("")
            continue
        values[-1] += letter
    return values


def name_settings(settings: Settings) -> str:
    """A folder's name that a person can read; a hash is added where letters of it had to be replaced."""
    plain = ",".join(f"{key}={text}" for key, text in settings)
    safe = re.sub(r"[^A-Za-z0-9._,=+-]", "-", plain)
    # Windows drops a dot at a name's end.
    if safe != plain or len(safe) > _LONGEST_NAME or safe.endswith("."):
        safe = f"{safe[:_LONGEST_NAME]}-{hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()}"
    return safe


def _distinct(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        twin = seen.setdefault(cell.loaded.recipe.model_dump_json(), cell)
        if twin is not cell:
            raise UsageError(f"{twin.name} and {cell.name} are the same run", "Give each value once.")
