"""Jobs of submitit, on a cluster or on this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from idsnn_cli.cli.launchers import Ended, Launched
from idsnn_cli.cli.launchers._work import Work
from idsnn_cli.errors import JobError
from idsnn_cli.text import excerpt


class Submitted(Launched):
    """Jobs that submitit has submitted."""

    def __init__(self, jobs: Sequence[Any]) -> None:
        self.jobs = jobs
        self._ended: list[Ended | None] = [None] * len(jobs)

    def ended(self) -> list[Ended | None]:
        for place, job in enumerate(self.jobs):
            if self._ended[place] is None and job.done():
                self._ended[place] = _how(job)
        return self._ended

    def stop(self) -> None:
        for job, ended in zip(self.jobs, self._ended, strict=True):
            if ended is None:
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    job.cancel(check=False)


def submit(executor: Any, commands: Sequence[Sequence[str]], logs: Sequence[Path]) -> Submitted:
    """Raises :class:`JobError` where the scheduler refuses a job; those before it are taken back."""
    jobs: list[Any] = []
    try:
        for command, log in zip(commands, logs, strict=True):
            jobs.append(executor.submit(Work(list(command), Path.cwd(), log)))
    except Exception as error:  # submitit raises its own, and what its subprocesses end with
        Submitted(jobs).stop()
        raise JobError(f"the scheduler refuses a job: {excerpt(str(error))}", "Correct --resource.") from error
    return Submitted(jobs)


def _how(job: Any) -> Ended:
    """How a job that is over ended; one that has no result was killed, or never began."""
    try:
        return Ended(int(job.result()))
    except Exception as error:  # submitit raises its own, and what the job raised
        return Ended(1, str(error).strip())
