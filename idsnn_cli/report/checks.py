"""One line of what ``doctor`` finds. Nothing here or in its neighbours needs torch to be imported at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at.

    ``missing`` means that commands will fail without it, ``warn`` that some do less; ``fix`` is then the command that
    mends it.
    """

    group: Literal["versions", "devices", "data", "disk"]
    name: str
    status: Status
    found: str
    fix: str | None = None


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
