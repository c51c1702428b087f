"""``python windows.py there LINE ...``: commands on a Linux from which what Windows lacks is taken away.

With ``here`` for ``there`` nothing is.

Gone are os.fchmod, O_DIRECTORY, sched_getaffinity, fork, timers and the signals of POSIX. A file that this process has
open or mapped can neither be replaced nor removed, a folder cannot be opened, a file that was opened to be read cannot
be synced, and no name can be made that NTFS forbids. Locks are files, for fcntl is gone, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import filelock
import torch  # asks the system what it is when it is imported
import torchvision  # noqa: F401

GONE = ("fchmod", "O_DIRECTORY", "sched_getaffinity", "fork", "getuid", "geteuid")
NO_SIGNALS = ("setitimer", "ITIMER_REAL", "SIGALRM", "SIGKILL", "SIGHUP", "SIGPIPE")
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|^(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?$', re.IGNORECASE)
# Which argument of an audited call is the new name.
_NEW = {"os.mkdir": 0, "os.rename": 1, "os.link": 1}
_OPEN, _FSYNC = os.open, os.fsync


def held(path: Any) -> bool:
    """Whether this process has the file open or mapped."""
    name = os.path.realpath(path)
    for each in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{each}") == name:
                return True
        except OSError:
            continue
    return f" {name}\n" in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")


def refused(path: Any) -> NoReturn:
    raise PermissionError(errno.EACCES, "The process cannot access the file, it is being used", str(path))


def guarded(call: Any) -> Any:
    def wrapped(*paths: Any, **options: Any) -> Any:
        for path in paths:
            if held(path):
                refused(path)
        return call(*paths, **options)

    return wrapped


def open_file(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
    if os.path.isdir(path):
        refused(path)
    return _OPEN(path, flags, mode, **options)


def sync(descriptor: int) -> None:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _FSYNC(descriptor)


def names(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: what NTFS forbids is never the name of anything new."""
    new: Any = None
    if event == "open":
        path, _mode, flags = arguments
        new = path if (flags or 0) & os.O_CREAT else None
    elif event in _NEW:
        new = os.fspath(arguments[_NEW[event]])
    if isinstance(new, str) and FORBIDDEN.search(os.path.basename(new)):
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", new)


def take_away() -> None:
    for module, gone in ((os, GONE), (signal, NO_SIGNALS)):
        for name in gone:
            delattr(module, name)
    for name in ("replace", "rename", "unlink", "remove"):
        setattr(os, name, guarded(getattr(os, name)))
    setattr(os, "open", open_file)  # noqa: B010  # mypy
    setattr(os, "fsync", sync)  # noqa: B010
    # What it is where there is no fcntl.
    setattr(filelock, "FileLock", filelock.SoftFileLock)  # noqa: B010
    sys.addaudithook(names)

    from idsnn_cli import systems

    systems.WINDOWS = True


def main() -> None:
    """Type each line; the first that fails ends the process with its code."""
    place, *lines = sys.argv[1:]
    torch.set_num_threads(1)
    if place == "there":
        take_away()
    from idsnn_cli.cli.main import main as idsnn

    for line in lines:
        sys.argv = ["idsnn", *line.split()]
        try:
            idsnn()
        except SystemExit as stop:
            if stop.code:
                sys.stderr.write(f"{line} ended with {stop.code}\n")
                raise


if __name__ == "__main__":
    main()
