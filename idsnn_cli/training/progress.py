"""Where a training stands: what it tells while it runs, how it stops, and the state from which it goes on.

The resume state is everything that a killed training needs to end with the bytes it would have had. The first SIGINT or
SIGTERM lets it finish the batch, save and leave; a second one leaves at once.
"""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from idsnn_cli.checkpoint import atomic_path
from idsnn_cli.errors import CheckpointError

STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class BatchDone:
    """After a batch: sums of the epoch so far. ``seconds`` counts this epoch, over interruptions."""

    epoch: int
    batch: int
    loss: float
    top1: float
    images: int
    seconds: float


class Events:
    """A listener that hears nothing; override what matters."""

    def fit_started(self, name: str, epochs: int, batches: int, done_epochs: int, done_batches: int) -> None:
        """``name`` begins, or goes on after what is done."""

    def batch_done(self, event: BatchDone) -> None:
        """One optimiser step was made (not every one is told)."""

    def epoch_done(self, name: str, record: dict[str, Any], epochs: int) -> None:
        """``record`` is the line that metrics.jsonl got."""

    def fit_finished(self, name: str) -> None:
        """All epochs are done, or the training stopped."""

    def say(self, message: str) -> None:
        """Something a person should know."""


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


class StopRequest:
    """Holds the number of the first signal that asked to stop, or None."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM only sets the request; the next one acts as before."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def remember(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        for each in numbers:
            signal.signal(each, before[each])

    for number in numbers:
        signal.signal(number, remember)
    try:
        yield request
    finally:
        for number in numbers:
            signal.signal(number, before[number])
