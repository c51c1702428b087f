"""The launchers of grids: one file each, found by its name, which is the word of ``--launcher``.

Each hands work to a scheduler that others have written. What it starts are processes of ``idsnn run ... --share``,
which settle between them who does which run.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from idsnn_cli.errors import UsageError, did_you_mean

LAUNCHERS = "idsnn_cli.cli.launchers"
# The folder, in that of the grid, in which jobs write what they say.
FOLDER = "jobs"


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit code, 0 where all went well, and what is known beside what it said."""

    code: int
    words: str = ""


class Launched(ABC):
    """Jobs that were started."""

    @abstractmethod
    def ended(self) -> list[Ended | None]:
        """Of each job how it ended, None while it waits or runs."""

    @abstractmethod
    def stop(self) -> None:
        """Let those that have not ended save their state and end."""


class Launcher(ABC):
    """A scheduler. ``extra`` brings its library; ``keys`` are what ``--resource`` takes, with what each is."""

    extra: str
    keys: Mapping[str, str]
    # Whether other keys are passed on to the scheduler.
    open: bool = False

    @abstractmethod
    def require(self, resources: Mapping[str, str]) -> None:
        """Raise :class:`MissingPackageError` or :class:`UsageError` for what would stop it."""

    @abstractmethod
    def launch(self, commands: Sequence[Sequence[str]], logs: Sequence[Path], resources: Mapping[str, str]) -> Launched:
        """Start each of ``commands`` as a job that writes its stderr to the log of the same place.

        Raises :class:`JobError` where the scheduler refuses them.
        """

    def read(self, resources: Sequence[str]) -> dict[str, str]:
        """KEY=VALUE words as a mapping. Raises :class:`UsageError` for one that is none, or a key that is not known."""
        found: dict[str, str] = {}
        for word in resources:
            key, equals, value = word.partition("=")
            if not equals or not value or not re.fullmatch(r"[a-z][a-z0-9-]*", key):
                raise UsageError(f"--resource {word} is not of the form KEY=VALUE", self._taken())
            if key not in self.keys and not self.open:
                raise UsageError(f"--resource {key} is not known.{did_you_mean(key, self.keys)}", self._taken())
            if key in found:
                raise UsageError(f"--resource {key} is given twice", "Give it once.")
            found[key] = value
        return found

    def _taken(self) -> str:
        """What to do instead of a wrong ``--resource``."""
        return (
            f"Give {', '.join(f'{key} ({what})' for key, what in self.keys.items())}." if self.keys else "Leave it out."
        )


def number(resources: Mapping[str, str], key: str, least: float = 1) -> float | None:
    """The number that ``key`` is given, None where it is not. Raises :class:`UsageError` for another value."""
    if key not in resources:
        return None
    try:
        value = float(resources[key])
    except ValueError:
        value = float("nan")
    if not least <= value < 2**31:
        raise UsageError(
            f"--resource {key}={resources[key]} is not a number of {least:g} or more", f"Correct it: {key}=4."
        )
    return value


def whole(resources: Mapping[str, str], key: str, least: int = 1) -> int | None:
    """As :func:`number`, for a whole one."""
    value = number(resources, key, least)
    if value is not None and value != int(value):
        raise UsageError(f"--resource {key}={resources[key]} is not a whole number", f"Correct it: {key}=4.")
    return None if value is None else int(value)
