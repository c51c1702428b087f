"""What a training tells while it runs; the terminal, a log or a test listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
