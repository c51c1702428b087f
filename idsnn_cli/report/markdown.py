"""Markdown: words of others as words."""

from __future__ import annotations

import html

from idsnn_cli.text import visible


def as_words(value: object) -> str:
    """Words of others (names of classes and files) as words: no markup, no end of a cell or a line."""
    words = " ".join(visible(str(value)).split())
    escaped = html.escape(words, quote=False)
    for mark in "\\`*_[]|":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
