"""Where a training stands: what it tells while it runs, how it stops, and the state from which it goes on.

The resume state is everything that a killed training needs to end with the bytes it would have had. The first SIGINT or
SIGTERM lets it finish the batch, save and leave; a second one leaves at once.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from idsnn_cli.checkpoint import atomic_link, atomic_path
from idsnn_cli.checkpoint.integrity import check_archive
from idsnn_cli.errors import CheckpointError, WriteError
from idsnn_cli.systems import replace
from idsnn_cli.text import excerpt

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

    def joined(self, main: bool) -> None:
        """The work begins; of several processes only the ``main`` one writes and should tell."""

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

    def check(self, path: Path, *, epochs: int, batches: int, split: str) -> None:
        """Raise :class:`CheckpointError` where a training of so many epochs, of so many batches each, that is measured
        on ``split``, cannot stand as the state in ``path`` says.
        """
        try:
            self._check(epochs, batches, split)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise _no_state(path, error) from None

    def _check(self, epochs: int, batches: int, split: str) -> None:
        # All batches of an epoch are done where a stop came before the epoch was closed.
        counts = {"epoch": (self.epoch, epochs), "batch": (self.batch, batches if self.epoch < epochs else 0)}
        for name, (value, most) in counts.items():
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(f"{name} {value!r} is none from 0 to {most:,}")
        if type(self.correct) is not int or type(self.seen) is not int or not 0 <= self.correct <= self.seen:
            raise ValueError(f"{self.correct!r} of {self.seen!r} images are right")
        if not all(isinstance(value, float) and math.isfinite(value) for value in (self.loss_sum, self.seconds)):
            raise ValueError(f"loss sum {self.loss_sum!r} and seconds {self.seconds!r} are no numbers")
        if (self.batch == 0) is not (self.seen == 0):
            raise ValueError(f"{self.seen!r} images were seen in {self.batch!r} batches")
        if not isinstance(self.history, list) or [_epoch_of(record) for record in self.history] != [
            *range(1, self.epoch + 1)
        ]:
            raise ValueError(f"its history is not that of epochs 1 to {self.epoch}")
        measured = [record["epoch"] for record in self.history if _is_percent(record.get(f"{split}_top1"))]
        best = (self.best_epoch, self.best_top1)
        known = best == (None, None) if not measured else self.best_epoch in measured and _is_percent(self.best_top1)
        if not known or (self.epoch == epochs and self.epoch not in measured):
            raise ValueError(f"the best epoch {self.best_epoch!r} or the last was not measured")

    def open_epoch(self) -> None:
        """Forget the sums of the epoch that has ended."""
        self.batch, self.loss_sum, self.correct, self.seen, self.seconds = 0, 0.0, 0, 0, 0.0


def _epoch_of(record: Any) -> Any:
    """The number of a history's record; None for what is no record with a time of its own."""
    if not isinstance(record, dict) or not isinstance(record.get("seconds"), float):
        return None
    return record.get("epoch")


def _is_percent(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value <= 100


def save_state(path: Path, progress: Progress, parts: dict[str, Any], *, keep: bool, identity: str = "") -> None:
    """Write the state whole or not at all. ``parts`` are state dicts by name (model, losses, optimiser, scaler), and
    ``identity`` is what no other training has.

    With ``keep`` the state that stands there, of a whole number of epochs, first becomes :func:`epoch_state`.
    """
    if keep and path.exists():
        atomic_link(path, epoch_state(path))
    with atomic_path(path) as temporary:
        torch.save({"version": STATE_VERSION, "training": identity, "progress": asdict(progress), **parts}, temporary)


def epoch_state(path: Path) -> Path:
    """Where the last state between two epochs is kept, in case that in ``path`` is damaged."""
    return path.with_name(f"epoch.{path.name}")


def set_aside(path: Path) -> Path:
    """Give a damaged state another name, so that nothing goes on from it and nothing is lost; returns that name."""
    aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
    try:
        replace(path, aside)
    except OSError as error:
        raise WriteError(f"{path} is damaged and cannot be set aside: {error.strerror}", "Remove it.") from None
    return aside


def load_state(path: Path, identity: str = "") -> tuple[Progress, dict[str, Any]]:
    """The progress and the state dicts of :func:`save_state`, on the CPU.

    Raises :class:`CheckpointError` where the file is not such a state, its bytes are not those that were written, a
    weight in it is not finite, or it is of another training than ``identity``, where both are said.
    """
    try:
        check_archive(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["version"] != STATE_VERSION:
            raise ValueError(f"version {stored['version']}")
        if identity and stored.get("training", "") not in ("", identity):
            raise ValueError("it is of a training with other settings or inputs")
        progress = Progress(**stored["progress"])
        parts = {key: value for key, value in stored.items() if key not in ("version", "training", "progress")}
        bad = [name for name, value in parts["model"].items() if not bool(torch.isfinite(value).all())]
        if bad:
            raise ValueError(f"{bad[0]} is not finite")
        return progress, parts
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise _no_state(path, error) from None


def _no_state(path: Path, error: Exception) -> CheckpointError:
    reason = excerpt(str(error), 120) or type(error).__name__
    return CheckpointError(
        f"{path} is not a resume state of this version: {reason}.", "Start the step anew with --force."
    )


class StopRequest:
    """Holds the number of the first signal that asked to stop, or None."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM only sets the request; the next one acts as before.

    One that came too late for the block to heed acts as before behind it.
    """
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
    if request.signal_number is not None:
        signal.raise_signal(request.signal_number)
