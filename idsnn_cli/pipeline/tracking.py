"""What is looked at after each epoch of a training: firing rates, and the trackers that the recipe names.

A tracker that fails is told and left out from then on; nothing that it does stops the training. Each epoch is written
to each tracker at most once, also over kills and resumes: that it is about to be is on disk before.
"""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from idsnn_cli.checkpoint import write_json
from idsnn_cli.errors import MissingPackageError
from idsnn_cli.evaluation.firing import ALWAYS, HARDLY, firing_rates, odd_rates
from idsnn_cli.models import Model
from idsnn_cli.registry import find
from idsnn_cli.text import excerpt
from idsnn_cli.training.trackers import TRACKERS, Log, Tracked, Tracker

STATE = "tracking.json"
# The images that firing rates are of, and the layers that are named.
SAMPLE, _NAMED = 64, 4
_ADVICE = "student.v_threshold, student.decay, the learning rate and init.reestimate move it"


def require_trackers(names: tuple[str, ...]) -> None:
    """Raise :class:`MissingPackageError` where one of the trackers ``names`` has no library here."""
    for name in names:
        package = find(TRACKERS, name, Tracker).package
        if package is not None and find_spec(package[0]) is None:
            raise MissingPackageError(
                f"runtime.track names {name}, which is not installed",
                f"Install it with: pip install 'idsnn-cli[{package[1]}]'",
            )


@dataclass
class Watching:
    """Looks at the training of ``model`` after each epoch, in the main process alone.

    ``images`` are some that firing rates are of, on the model's device. ``file`` keeps the trackers' runs and what was
    written; ``say`` tells a person.
    """

    names: tuple[str, ...]
    run: Path
    step: str
    file: Path
    config: Mapping[str, Any]
    model: Model
    images: Callable[[], Tensor]
    seed: int
    say: Callable[[str], None]
    _logs: dict[str, Log] = field(default_factory=dict)
    _state: dict[str, Any] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _seen: int = 0

    def __enter__(self) -> Self:
        if self.names:
            self._state = _read(self.file) or {"id": uuid.uuid4().hex, "runs": {}}
            of = Tracked(self.run, self.step, self._state["id"], self.config)
            for name in self.names:
                self._open(name, of)
        return self

    def __exit__(self, *error: object) -> None:
        for name, log in self._logs.items():
            self._quietly(name, log.close)
        self._logs.clear()

    def epochs(self, history: list[dict[str, Any]]) -> None:
        """``history`` has a record of each finished epoch; what is new in it is looked at and written."""
        if not history or history[-1]["epoch"] <= self._seen:
            return
        last = self._seen = history[-1]["epoch"]
        rates = self._rates(last)
        for record in history:
            rest = {f"firing_rate/{layer}": rate for layer, rate in rates.items()} if record["epoch"] == last else {}
            figures = {key: float(value) for key, value in record.items() if key != "epoch"} | rest
            for name in self._logs:
                if name not in self._failed:
                    self._write(name, record["epoch"], figures)

    def _rates(self, epoch: int) -> dict[str, float]:
        """Of each layer now; a person hears of those that are odd for the first time."""
        rates = firing_rates(self.model, self.images(), self.seed)
        odd = odd_rates(rates)
        fresh = {layer: rate for layer, rate in odd.items() if layer not in self._told}
        self._told = set(odd)
        for words, layers in (
            (f"below {100 * HARDLY:g} %", {layer: rate for layer, rate in fresh.items() if rate < HARDLY}),
            (f"above {100 * ALWAYS:g} %", {layer: rate for layer, rate in fresh.items() if rate > ALWAYS}),
        ):
            if layers:
                listed = ", ".join(f"{layer} {100 * rate:.2g} %" for layer, rate in list(layers.items())[:_NAMED])
                more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
                self.say(
                    f"{self.step}, epoch {epoch}: {len(layers)} of {len(rates)} layers fire {words} ({listed}{more}); "
                    f"{_ADVICE}"
                )
        return rates

    def _open(self, name: str, of: Tracked) -> None:
        def work() -> None:
            known = self._state["runs"].get(name)
            log = find(TRACKERS, name, Tracker).open(of, None if known is None else known["identity"])
            self._logs[name] = log
            if known is None:
                self._state["runs"][name] = {"identity": log.identity, "epoch": 0}
                write_json(self.file, self._state)

        self._quietly(name, work)

    def _write(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        known = self._state["runs"][name]
        if epoch <= known["epoch"]:
            return

        def work() -> None:
            known["epoch"] = epoch
            write_json(self.file, self._state)
            self._logs[name].write(epoch, figures)

        self._quietly(name, work)

    def _quietly(self, name: str, work: Callable[[], None]) -> None:
        """Do ``work`` of a tracker; where it fails, say so and go on without it. What it prints is nobody's output."""
        try:
            with _hushed():
                work()
        except Exception as error:  # trackers are others' code, which reaches for networks and disks
            self._failed.add(name)
            reason = excerpt(" ".join(str(error).split()), 160) or type(error).__name__
            self.say(f"{self.step}: {name} failed and is left out from here on, training goes on: {reason}")


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _read(path: Path) -> dict[str, Any] | None:
    """What was kept of the trackers' runs; None where nothing was, or it cannot be read: then they are new ones."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = found["runs"].items()
        kept = {name: {"identity": str(run["identity"]), "epoch": int(run["epoch"])} for name, run in runs}
        return {"id": str(found["id"]), "runs": kept}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
