"""``idsnn run --jobs N``: processes that take the runs of one grid between them, each run once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from idsnn_cli.cli.console import Console
from idsnn_cli.errors import JobError, UsageError

# The last lines of a process that ends with an error are told again.
_LAST_LINES = 4


def require_jobs(jobs: int | None, share: bool, seeds: str | None, vary: Sequence[str], force: bool) -> None:
    """Raise :class:`UsageError` where runs cannot be shared between processes."""
    named = "--share" if share else "--jobs"
    if jobs is None and not share:
        return
    if jobs is not None and share:
        raise UsageError("--jobs starts processes that share, and --share is one of them", "Leave one of the two out.")
    if seeds is None and not vary:
        raise UsageError(f"{named} shares the runs of a grid, and this is one run", "Add --seeds or --vary.")
    if force:
        raise UsageError(
            f"--force with {named} would do runs again that another process has just done",
            "Remove the grid's folder, or leave --force out.",
        )
    if "RANK" in os.environ:
        raise UsageError(
            f"{named} is for processes that work alone, and torchrun has made these to work on one run together",
            "Start idsnn without torchrun.",
        )


def run_jobs(console: Console, jobs: int, words: Sequence[str], device: str | None, folder: Path) -> None:
    """Do all runs of the grid by ``jobs`` processes of ``idsnn run --share``, told the same ``words``.

    Each has its part of the cores (unless the words name threads), or one of the GPUs in turn where there are several.
    Raises :class:`JobError` where one of them ends with an error; what the others did stays.
    """
    started: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    heard: list[list[str]] = []
    try:
        for number in range(jobs):
            command = [sys.executable, "-m", "idsnn_cli", "run", *words, *_place(number, jobs, words, device)]
            child = subprocess.Popen(
                [*command, "--run-dir", str(folder), "--share"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
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
        for child in started:
            if child.poll() is None:
                child.terminate()
        for child in started:
            child.wait()
    for reader in readers:
        reader.join()
    failed = [number for number, code in enumerate(codes) if code]
    if failed:
        first = failed[0]
        last = "\n".join(heard[first][-_LAST_LINES:])
        raise JobError(
            f"{len(failed)} of {jobs} jobs ended with an error; job {first + 1} with exit code {codes[first]}:\n{last}",
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
