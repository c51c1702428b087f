"""Tasks of a Ray cluster, or of one that is made on this machine for the time of the command."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idsnn_cli.cli.launchers import Ended, Launched, Launcher, number
from idsnn_cli.cli.launchers._work import Work
from idsnn_cli.errors import JobError, UsageError
from idsnn_cli.extras import require_extra
from idsnn_cli.text import excerpt


class Ray(Launcher):
    """Each job is a task; Ray starts those for which it has room."""

    extra = "ray"
    keys: Mapping[str, str] = {
        "address": "of the cluster; without it Ray finds one, or makes one on this machine",
        "cpus": "cores of each job, 1 where it is not given",
        "gpus": "GPUs of each job, none where it is not given; a fraction where several share one",
    }

    def require(self, resources: Mapping[str, str]) -> None:
        require_extra(self.extra, "--launcher ray", "ray")
        for key in ("cpus", "gpus"):
            value = number(resources, key, 0)
            if value is not None and value > 1 and value != int(value):
                raise UsageError(
                    f"--resource {key}={resources[key]} is above 1 and no whole number, which Ray cannot give",
                    "Give a whole number, or a part of one.",
                )

    def launch(self, commands: Sequence[Sequence[str]], logs: Sequence[Path], resources: Mapping[str, str]) -> Launched:
        import ray as library

        ray: Any = library  # it leaves half of itself untyped
        cpus, gpus = number(resources, "cpus", 0), number(resources, "gpus", 0)
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=resources.get("address"), include_dashboard=False, log_to_driver=False, logging_level=40)
        except Exception as error:  # Ray raises many kinds, and its own
            raise JobError(f"Ray does not start: {excerpt(str(error))}", "Correct --resource address.") from error
        finally:
            # Ray has put its own there, by which the command would end with another code.
            signal.signal(signal.SIGTERM, ours)
        wanted = {"CPU": 1 if cpus is None else cpus, "GPU": gpus or 0}
        if resources.get("address", os.environ.get("RAY_ADDRESS", "local")) == "local":
            try:
                _require_room(wanted, [node.get("Resources", {}) for node in ray.nodes()])
            except JobError:
                ray.shutdown()
                raise
        task = ray.remote(num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], max_retries=-1)(work)
        folder = str(Path.cwd())
        return Tasks(ray, [task.remote(list(each), folder, str(log)) for each, log in zip(commands, logs, strict=True)])


def _require_room(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise :class:`JobError` where none of the machines has what a job is to be given: Ray would wait for one that
    comes, which only clusters that grow have, and say nothing.
    """
    if any(all(node.get(kind, 0) >= count for kind, count in wanted.items()) for node in nodes):
        return
    most = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in wanted}
    raise JobError(
        "no machine of the Ray cluster has what each job is to be given: "
        + ", ".join(f"{kind} {count:g} of {most[kind]:g}" for kind, count in wanted.items()),
        "Correct --resource; a cluster that grows is named by --resource address=ADDRESS.",
    )


def work(command: list[str], folder: str, log: str) -> int:
    """What a task does: the command, which ends with it."""
    return Work(command, Path(folder), Path(log))()


class Tasks(Launched):
    """Tasks of ``ray`` by their references."""

    def __init__(self, ray: Any, references: Sequence[Any]) -> None:
        self.ray = ray
        self.references = references

    def ended(self) -> list[Ended | None]:
        done, _ = self.ray.wait(list(self.references), num_returns=len(self.references), timeout=0)
        return [self._how(each) if each in done else None for each in self.references]

    def _how(self, reference: Any) -> Ended:
        try:
            return Ended(int(self.ray.get(reference)))
        except Exception as error:  # Ray raises its own, and what the task raised
            return Ended(1, str(error).strip())

    def stop(self) -> None:
        left = [each for each, ended in zip(self.references, self.ended(), strict=True) if ended is None]
        for reference in left:
            # An interrupt in the task, which lets its command save.
            self.ray.cancel(reference, force=False)
        if left:
            self.ray.wait(left, num_returns=len(left), timeout=60)
        self.ray.shutdown()


RAY = Ray()
