"""Where operating systems differ, in one place: what Windows and macOS lack of Linux, and what stands in for it.

Only what was tried on Linux has run; the rest runs in tests that take away here what is lacking there
(``tests/platforms``).
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

WINDOWS = sys.platform == "win32"
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
# Seconds for which a program that looks at every new file (a virus scanner, an indexer) may hold one on Windows.
PATIENCE = 2.0
_PAUSE = 0.05
# Seconds that processes which got the same Ctrl-C have to save their state where nothing but killing can stop them.
GRACE = 60.0
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)

# Files

# What a system says of a disk, or a share of it, that is full.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def sync_file(path: Path, mode: int | None = None) -> None:
    """Let what ``path`` holds reach the disk; with ``mode`` it gets that first, where files have modes."""
    # FlushFileBuffers asks for the right to write, which a file of mode 0444 does not give elsewhere.
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        if mode is not None and hasattr(os, "fchmod") and not WINDOWS:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Let the names in ``path`` reach the disk, where a folder can be opened and its file system syncs folders."""
    directory = getattr(os, "O_DIRECTORY", None)
    if directory is None:  # NTFS keeps names in its journal
        return
    descriptor = os.open(path, os.O_RDONLY | directory)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``, whatever had it, in one step.

    Windows refuses that while any program has one of the two open; it is asked again for two seconds, then its error
    is raised.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            os.replace(source, target)
        except PermissionError:
            if not WINDOWS or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return


def reader_left(error: OSError) -> bool:
    """Whether a write failed because the reader of a pipe has left; Windows calls that an invalid argument."""
    return isinstance(error, BrokenPipeError) or (
        WINDOWS and error.filename is None and error.errno in (errno.EINVAL, errno.EPIPE)
    )


# The machine


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def nvidia_driver() -> bool:
    """Whether there is an NVIDIA driver: a file of it on Linux; elsewhere, and under WSL, its program on the path."""
    import shutil

    if NVIDIA_DRIVER.exists():
        return True
    foreign = not sys.platform.startswith("linux") or Path("/dev/dxg").exists()
    return foreign and shutil.which("nvidia-smi") is not None


# Signals and processes

Handler = Callable[[int, FrameType | None], Any]


class Reminder:
    """Calls a handler in the main thread again and again; by a timer's signal, or where there is none by a thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ended: threading.Event | None = None

    def start(self, number: int, handler: Handler) -> None:
        """Call ``handler`` every so many seconds from now on; ``number`` is the signal that it is about.

        Where a thread does it, it simulates that signal, whose handler it becomes.
        """
        self.stop()
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, self.seconds, self.seconds)
            return
        signal.signal(number, handler)
        self._ended = threading.Event()
        threading.Thread(target=_remind, args=(number, self.seconds, self._ended), daemon=True).start()

    def stop(self) -> None:
        """Call it no more."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._ended is not None:
            self._ended.set()


def _remind(number: int, seconds: float, ended: threading.Event) -> None:
    while not ended.wait(seconds):
        _thread.interrupt_main(signal.Signals(number))


def end(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """Ask processes that still run to save their state and end, and wait until they have.

    Windows knows no such request and would kill them at once: there those that got the same Ctrl-C as this process
    have a minute to save first.
    """
    import subprocess

    if WINDOWS:
        until = time.monotonic() + GRACE
        for each in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(max(until - time.monotonic(), 0))
    for each in processes:
        if each.poll() is None:
            each.terminate()
    for each in processes:
        each.wait()
