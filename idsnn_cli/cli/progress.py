"""How a training looks: a bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from idsnn_cli.cli.console import Console
from idsnn_cli.training import BatchDone, Events

# The columns from which the bar tells images a second, too.
WIDE = 95
SPLITS = {"validation_top1": "val"}


class TrainingDisplay(Events):
    """Shows loss, accuracy, images a second and the time left. The images of this sitting give the rate."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.epochs = self.batches = 0

    def joined(self, main: bool) -> None:
        self.console.main = main

    def fit_started(self, name: str, epochs: int, batches: int, done_epochs: int, done_batches: int) -> None:
        self.epochs, self.batches = epochs, batches
        if done_epochs or done_batches:
            self.console.say(f"{name}: going on after epoch {done_epochs} of {epochs}, batch {done_batches}")
        if self.console.lively and done_epochs < epochs:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=self.console.err,
                transient=True,
            )
            self.task = self.bar.add_task(
                name, total=epochs * batches, completed=done_epochs * batches + done_batches, figures=""
            )
            self.bar.start()

    def batch_done(self, event: BatchDone) -> None:
        if self.bar is not None and self.task is not None:
            rate = f"  {event.images / max(event.seconds, 1e-9):.0f} images/s"
            figures = f"epoch {event.epoch + 1}/{self.epochs}  loss {event.loss:.3f}  top-1 {event.top1:.1f} %"
            figures += rate if self.console.err.width >= WIDE else ""
            self.bar.update(self.task, completed=event.epoch * self.batches + event.batch, figures=figures)

    def epoch_done(self, name: str, record: dict[str, Any], epochs: int) -> None:
        measured = [
            f"{SPLITS.get(key, key.removesuffix('_top1'))} {value:.2f} %"
            for key, value in record.items()
            if key.endswith("_top1") and key != "train_top1"
        ]
        # What a narrow terminal has no room for, the first of it first; metrics.jsonl has it all.
        spare = [
            f"{record['images_per_second']:.0f} img/s",
            f"{record['seconds']:.1f} s",
            f"train {record['train_top1']:.2f} %",
        ]
        rate, seconds, trained = spare
        parts = [
            f"{name} {record['epoch']}/{epochs}",
            f"loss {record['train_loss']:.4f}",
            trained,
            *measured,
            rate,
            seconds,
        ]
        while spare and len("  ".join(parts)) > self.console.err.width:
            parts.remove(spare.pop(0))
        self.console.say("  ".join(parts))

    def fit_finished(self, name: str) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = self.task = None

    def say(self, message: str) -> None:
        self.console.say(message)
