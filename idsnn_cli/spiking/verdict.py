"""What was found of the kernels on a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the kernels are used; where not, the ``reason`` in words, and what would mend it."""

    used: bool
    reason: str = ""
    fix: str | None = None
