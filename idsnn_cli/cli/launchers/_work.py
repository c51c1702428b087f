"""What a scheduler runs: one command as a child process, which is told to save and end where the job has to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What is sent to all processes of a job before its time is up the job itself answers, and tells the command. Nothing
# may run between fork and exec in a process of many threads, so a shell lets the command ignore it.
_DEAF = ("sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh")
_LOOK_AGAIN = 0.05


@dataclass
class Work:
    """``command`` in ``folder``; what it says on stderr is added to ``log``. A call gives its exit code."""

    command: list[str]
    folder: Path
    log: Path
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> int:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*_DEAF, *self.command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        try:
            return self._child.wait()
        finally:
            self.stop()

    def stop(self) -> None:
        """Let the command save its state and end.

        This may interrupt the wait for it, whose lock Popen's own methods would want.
        """
        if self._child is None or self._child.returncode is not None:
            return
        told = False
        with contextlib.suppress(ChildProcessError):  # it is over
            while os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if not told:
                    os.kill(self._child.pid, signal.SIGTERM)
                told = True
                time.sleep(_LOOK_AGAIN)

    def checkpoint(self) -> Any:
        """What submitit does when a job is preempted or its time is up: the same work goes on in a new job."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        return DelayedSubmission(self)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_child": None}
