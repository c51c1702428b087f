"""``idsnn run --jobs N`` and ``--launcher NAME``: processes that take the runs of one grid, each run once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.launchers import FOLDER, LAUNCHERS, Ended, Launcher
from idsnn_cli.cli.stopping import Stopped
from idsnn_cli.errors import JobError, UsageError, WriteError
from idsnn_cli.registry import find
from idsnn_cli.systems import end

# The last lines of a process that ends with an error are told again.
_LAST_LINES = 4
# Seconds between looks at jobs of a scheduler.
_LOOK_AGAIN = 0.5


@dataclass(frozen=True)
class Shared:
    """How the runs of a grid are shared: by so many ``jobs``, of the scheduler ``launcher``, or as one that shares.

    ``resources`` are the scheduler's KEY=VALUE words. With ``wait`` one that shares ends when all runs are done, and
    otherwise when others work on those that are left.
    """

    jobs: int | None = None
    launcher: str | None = None
    resources: tuple[str, ...] = ()
    share: bool = False
    wait: bool = True

    def require(self, seeds: str | None, vary: Sequence[str], force: bool) -> None:
        """Raise :class:`UsageError` where runs cannot be shared between processes so, and
        :class:`MissingPackageError` where the scheduler is not here.
        """
        if self.resources and self.launcher is None:
            raise UsageError("--resource is what a launcher gives each job", "Add --launcher, or leave it out.")
        if not self.wait and not self.share:
            raise UsageError("--no-wait says when --share ends", "Add --share, or leave it out.")
        if not self._named:
            return
        if self.share and self._named != "--share":
            raise UsageError(
                f"{self._named} starts processes that share, and --share is one of them", "Leave one of the two out."
            )
        if seeds is None and not vary:
            raise UsageError(f"{self._named} shares the runs of a grid, and this is one run", "Add --seeds or --vary.")
        if force:
            raise UsageError(
                f"--force with {self._named} would do runs again that another process has just done",
                "Remove the grid's folder, or leave --force out.",
            )
        if "RANK" in os.environ:
            raise UsageError(
                f"{self._named} is for processes that work alone, and torchrun has made these to work on one run "
                "together",
                "Start idsnn without torchrun.",
            )
        if self.launcher is not None:
            launcher = find(LAUNCHERS, self.launcher, Launcher)
            launcher.require(launcher.read(self.resources))

    @property
    def _named(self) -> str:
        if self.launcher is not None:
            return "--launcher"
        return "--jobs" if self.jobs is not None else "--share" if self.share else ""

    @property
    def started(self) -> bool:
        """Whether this process starts those that do the runs."""
        return self.launcher is not None or self.jobs is not None

    def start(self, console: Console, words: Sequence[str], device: str | None, folder: Path, cells: int) -> None:
        """Do all ``cells`` runs of the grid in ``folder`` by processes that are told the same ``words``.

        Raises :class:`JobError` where one of them ends with an error; what the others did stays.
        """
        try:
            if self.launcher is not None:
                chosen = [] if device is None else ["--device", device]
                _run_launched(console, self, self.jobs or cells, [*words, *chosen], folder)
            elif self.jobs is not None:
                _run_here(console, self.jobs, words, device, folder)
        except Stopped:
            console.say("stopped; the jobs save and end, and the same command goes on with what is left")
            raise


def _command(words: Sequence[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "idsnn_cli", "run", *words, "--run-dir", str(folder), "--share"]


def _run_here(console: Console, jobs: int, words: Sequence[str], device: str | None, folder: Path) -> None:
    """By ``jobs`` processes of this machine.

    Each has its part of the cores (unless the words name threads), or one of the GPUs in turn where there are several.
    """
    started: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    heard: list[list[str]] = []
    try:
        for number in range(jobs):
            child = subprocess.Popen(
                _command([*words, *_place(number, jobs, words, device)], folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            )
            assert child.stderr is not None
            lines: list[str] = []
            reader = threading.Thread(target=_tell, args=(console, number + 1, child.stderr, lines), daemon=True)
            reader.start()
            started.append(child)
            readers.append(reader)
            heard.append(lines)
        codes = [child.wait() for child in started]
    finally:
        # A signal that only this process got is theirs, too: each saves its state.
        end(started)
    for reader in readers:
        reader.join()
    _require_success([Ended(code) for code in codes], heard)


def _run_launched(console: Console, shared: Shared, jobs: int, words: Sequence[str], folder: Path) -> None:
    """By ``jobs`` jobs of a scheduler, which end as soon as no run is left for them, so that nothing waits in vain."""
    assert shared.launcher is not None
    launcher = find(LAUNCHERS, shared.launcher, Launcher)
    home = (folder / FOLDER).resolve()
    logs = [_Log(console, number, home / f"job-{number}.log") for number in range(1, jobs + 1)]
    try:
        home.mkdir(parents=True, exist_ok=True)
        for log in logs:
            log.path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"{home} cannot be written: {error}", "Choose another --run-dir.") from error
    command = [*_command(words, folder), "--no-wait"]
    launched = launcher.launch([command] * jobs, [log.path for log in logs], launcher.read(shared.resources))
    console.say(f"{jobs} jobs are with {shared.launcher}; what they say is in {home}")
    try:
        while None in (ended := launched.ended()):
            for log in logs:
                log.tell()
            time.sleep(_LOOK_AGAIN)
    finally:
        launched.stop()
    for log in logs:
        log.tell(whole=True)
    _require_success([each for each in ended if each is not None], [log.lines for log in logs])


def _require_success(ended: Sequence[Ended], heard: Sequence[Sequence[str]]) -> None:
    """Raise :class:`JobError` where a job ended with an error, with the last lines of the first one."""
    failed = [number for number, each in enumerate(ended) if each.code]
    if not failed:
        return
    first = failed[0]
    last = "\n".join([*heard[first][-_LAST_LINES:], *ended[first].words.splitlines()[-_LAST_LINES:]])
    raise JobError(
        f"{len(failed)} of {len(ended)} jobs ended with an error; job {first + 1} with exit code {ended[first].code}:\n"
        f"{last}",
        "What is done stays done: mend it and run the same command again.",
    )


def _place(number: int, jobs: int, words: Sequence[str], device: str | None) -> list[str]:
    """The device of one process, or its threads."""
    from idsnn_cli.pipeline.processes import part_of_machine

    gpu, threads = part_of_machine(number, jobs)
    chosen = [] if device is None else ["--device", device]
    if device is None and gpu is not None:
        return ["--device", gpu]
    if threads is None or any(word.startswith("runtime.threads=") for word in words):
        return chosen
    return [f"runtime.threads={threads}", *chosen]


def _tell(console: Console, number: int, stream: IO[str], lines: list[str]) -> None:
    """Pass on what a process says, with its number."""
    with stream:
        for line in stream:
            lines.append(line.rstrip())
            console.say(f"job {number}: {line.rstrip()}")


class _Log:
    """What a job writes to its log, told with its number as it comes."""

    def __init__(self, console: Console, number: int, path: Path) -> None:
        self.console, self.number, self.path = console, number, path
        self.lines: list[str] = []
        self._read = 0

    def tell(self, *, whole: bool = False) -> None:
        """Pass on the lines that came since; with ``whole`` one that has not ended, too."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:  # it waits
            return
        end = len(new) if whole else new.rfind(b"\n") + 1
        self._read += end
        for line in new[:end].decode(errors="replace").splitlines():
            self.lines.append(line.rstrip())
            self.console.say(f"job {self.number}: {line.rstrip()}")
