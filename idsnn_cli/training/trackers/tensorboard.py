"""TensorBoard: event files in RUN/tensorboard/STEP/ID (``tensorboard --logdir RUN/tensorboard``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.training.trackers import Log, Tracked, Tracker


class _Files(Log):
    def __init__(self, writer: Any, identity: str) -> None:
        self.writer, self.identity = writer, identity

    def write(self, epoch: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class TensorBoard(Tracker):
    """A resumed training adds a file to the folder of the first."""

    package = ("tensorboard", "tensorboard")

    def open(self, of: Tracked, identity: str | None) -> Log:
        from torch.utils.tensorboard import SummaryWriter

        place = identity or f"tensorboard/{of.step}/{of.id[:8]}"
        return _Files(SummaryWriter(str(of.run / place)), place)


TENSORBOARD = TensorBoard()
