"""Reading values back from JSON that may be damaged: each of the type and in the range that is asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T", bound=str)
# Beyond any size, and any factor that leaves a float32 finite.
_MOST, _LARGEST = 2**31 - 1, 1e30


def members(value: Any, known: Collection[str]) -> dict[str, Any]:
    """A JSON object as a new dictionary, with no keys but ``known``."""
    if not isinstance(value, Mapping) or not value.keys() <= set(known):
        raise ValueError(f"{value!r} is not an object of {', '.join(sorted(known))}")
    return dict(value)


def items(value: Any) -> list[Any]:
    """A JSON list; tuples, which become lists in JSON, count as such."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list")
    return list(value)


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def optional_text(value: Any) -> str | None:
    return None if value is None else text(value)


def one_of(value: Any, choices: tuple[_T, ...]) -> _T:
    for choice in choices:
        if isinstance(value, str) and value == choice:
            return choice
    raise ValueError(f"{value!r} is none of {', '.join(choices)}")


def integer(value: Any, least: int, most: int = _MOST) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r} is not an integer from {least} to {most}")
    return value


def integers(value: Any, least: int, most: int = _MOST) -> tuple[int, ...]:
    return tuple(integer(each, least, most) for each in items(value))


def number(value: Any, least: float = -_LARGEST) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= _LARGEST:
        raise ValueError(f"{value!r} is not a number of a usable size")
    return float(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value
