"""Trackio: a run in the local project ``idsnn``, in its own folder (TRACKIO_DIR); ``trackio show`` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.training.trackers import PROJECT, Log, Tracked, Tracker


class _Run(Log):
    def __init__(self, module: Any, run: Any, identity: str) -> None:
        self.module, self.run, self.identity = module, run, identity

    def write(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.run.log(dict(figures), step=epoch)

    def close(self) -> None:
        # The module's own, for what it still holds at the end of the process it would finish again, and print that.
        self.module.finish()


class Trackio(Tracker):
    """A run is found again by its name."""

    package = ("trackio", "trackio")

    def open(self, of: Tracked, identity: str | None) -> Log:
        import trackio

        name = identity or of.name
        run = trackio.init(
            project=PROJECT,
            name=name,
            group=of.group,
            config=dict(of.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return _Run(trackio, run, name)


TRACKIO = Trackio()
