"""The resume state: everything that a killed training needs to end with the bytes it would have had."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.checkpoint import atomic_path
from idsnn_cli.errors import CheckpointError

STATE_VERSION = 1


@dataclass
class Progress:
    """Where a training stands. ``epoch`` and ``batch`` count what is done; sums are those of the open epoch."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    best_top1: float | None = None
    best_epoch: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def open_epoch(self) -> None:
        """Forget the sums of the epoch that has ended."""
        self.batch, self.loss_sum, self.correct, self.seen, self.seconds = 0, 0.0, 0, 0, 0.0


def save_state(path: Path, progress: Progress, parts: dict[str, Any]) -> None:
    """Write the state whole or not at all. ``parts`` are state dicts by name (model, optimiser, scaler)."""
    with atomic_path(path) as temporary:
        torch.save({"version": STATE_VERSION, "progress": asdict(progress), **parts}, temporary)


def load_state(path: Path) -> tuple[Progress, dict[str, Any]]:
    """The progress and the state dicts of :func:`save_state`, on the CPU.

    Raises :class:`CheckpointError` where the file is not such a state.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["version"] != STATE_VERSION:
            raise ValueError(f"version {stored['version']}")
        progress = Progress(**stored["progress"])
        return progress, {key: value for key, value in stored.items() if key not in ("version", "progress")}
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not a resume state of this version: {str(error).splitlines()[0] if str(error) else error!r}",
            "Start the step anew with --force.",
        ) from None
