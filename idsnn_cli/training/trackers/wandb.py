"""Weights & Biases: a run in the project ``idsnn``, of the group of its run directory; WANDB_* variables hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.training.trackers import PROJECT, Log, Tracked, Tracker

# Seconds: nobody answers a question for a login in a training that runs by itself.
_PATIENCE = 60


class _Run(Log):
    def __init__(self, run: Any) -> None:
        self.run, self.identity = run, str(run.id)

    def write(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.run.log(dict(figures), step=epoch)

    def close(self) -> None:
        self.run.finish()


class WandB(Tracker):
    """With WANDB_MODE=offline all stands in RUN/wandb, for ``wandb sync``."""

    package = ("wandb", "wandb")

    def open(self, of: Tracked, identity: str | None) -> Log:
        import wandb

        settings = wandb.Settings(silent=True, console="off", init_timeout=_PATIENCE, login_timeout=_PATIENCE)
        run = wandb.init(
            project=PROJECT,
            group=of.group,
            name=of.name,
            id=identity or of.id,
            resume="allow",
            dir=str(of.run),
            config=dict(of.config),
            settings=settings,
        )
        return _Run(run)


WANDB = WandB()
