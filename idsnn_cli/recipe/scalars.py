"""Plain scalars of YAML 1.2's core schema to Python and back: ``1e-3`` and ``1.`` are numbers, ``yes`` is text."""

from __future__ import annotations

import json
import math
import re

from idsnn_cli.recipe.nodes import Value

_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BARE = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")

# Longer literals mean nothing in a recipe, and turning digits into a number takes quadratic time.
_MAX_NUMBER = 64


def resolve(text: str) -> Value:
    """The value of an unquoted scalar. Raises ``ValueError`` for a number of more than 64 characters."""
    if text in _WORDS:
        return _WORDS[text]
    for pattern, convert in ((_INTEGER, int), (_BASED, _based), (_FLOAT, float)):
        if pattern.fullmatch(text):
            if len(text) > _MAX_NUMBER:
                raise ValueError(f"a number of {len(text)} characters is too long")
            return convert(text)
    return text


def _based(text: str) -> int:
    return int(text[2:], 8 if text[1] == "o" else 16)


def render(value: Value) -> str:
    """``value`` as a scalar that :func:`resolve` reads back, inside flow collections too."""
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) is not None and value == resolve_or_none(value)
        return value if bare else quote(value)
    if isinstance(value, float):
        if math.isnan(value):
            return ".nan"
        return repr(value) if math.isfinite(value) else (".inf" if value > 0 else "-.inf")
    return json.dumps(value)


def quote(text: str) -> str:
    """``text`` as a double-quoted scalar on one line; what does not print is escaped as YAML (not JSON) reads it."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)


def resolve_or_none(text: str) -> Value:
    """:func:`resolve`, with None where that raises."""
    try:
        return resolve(text)
    except ValueError:
        return None
