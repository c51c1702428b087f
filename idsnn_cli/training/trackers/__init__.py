"""The trackers that a training may write its figures to: one file each, named in ``runtime.track`` by its name.

A file holds one :class:`Tracker`, and imports its library when it is opened. What calls it, and lets no failure of it
stop a training, is :mod:`idsnn_cli.pipeline.tracking`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

TRACKERS = "idsnn_cli.training.trackers"
PROJECT = "idsnn"


@dataclass(frozen=True, slots=True)
class Tracked:
    """One training as a tracker knows it: ``run`` is the run directory and ``step`` the step in it.

    ``id`` is drawn when the training begins, and the same after every resume; ``config`` the resolved recipe.
    """

    run: Path
    step: str
    id: str
    config: Mapping[str, Any]

    @property
    def group(self) -> str:
        """What the trainings of one run have in common."""
        return self.run.resolve().name

    @property
    def name(self) -> str:
        """A name that no other training has."""
        return f"{self.group}-{self.step}-{self.id[:8]}"


class Log(ABC):
    """An open run of a tracker. ``identity`` is its own name for it, by which it is found again."""

    identity: str

    @abstractmethod
    def write(self, epoch: int, figures: Mapping[str, float]) -> None:
        """The figures of an epoch, which is the tracker's step; they are kept when this returns, or soon after."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more comes in this process; the training may go on in another."""


class Tracker(ABC):
    """``package`` is a library that it alone needs, by the name to import, and the extra of this package that brings
    it; None where it needs none.
    """

    package: ClassVar[tuple[str, str] | None] = None

    @abstractmethod
    def open(self, of: Tracked, identity: str | None) -> Log:
        """The training's run: a new one, or the one of that ``identity``, which went before."""
