"""Files that are written whole or not at all.

The bytes go to a temporary file in the destination's own folder, are synced, and take the destination's name in one
step. Beside it stands a lock while it is written; a lock dies with its process, so a temporary whose lock can be had
belongs to nobody and the next write to the same destination removes both.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from idsnn_cli.errors import NonFiniteError, WriteError
from idsnn_cli.systems import DISK_FULL, replace, sync_file, sync_folder

_FIXES: dict[int, str] = {
    errno.EFBIG: "Raise the file size limit of this shell (ulimit -f), and run the same command again.",
    errno.EACCES: "Ask for the right to write there, or choose another place.",
    errno.EPERM: "Ask for the right to write there, or choose another place.",
    errno.EROFS: "The disk is mounted read-only; choose another place.",
    errno.ENOENT: "Create the folder first, or choose another place.",
    errno.ENOTDIR: "Part of the path is a file; choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_ELSEWHERE = "Check the disk, or choose another place."


@contextlib.contextmanager
def atomic_path(dest: Path) -> Iterator[Path]:
    """Give the path of a temporary file which becomes ``dest`` when the ``with`` block ends well.

    The file gets mode 0666 less the umask. On any exception the temporary is removed and ``dest`` is as it was. A
    symbolic link is followed, so that the file it names is replaced. Raises :class:`WriteError` where the disk
    refuses, also when a writer inside the block (torch's, safetensors') reports that in its own words.
    """
    target = Path(os.path.realpath(dest))
    with _as_write_error(dest, target.parent, None):
        _refuse_special(dest, target)
        _remove_stale(target)
        temporary, mode, lock = _create(target)
    try:
        with _as_write_error(dest, target.parent, {str(dest), str(target), str(temporary), str(target.parent)}):
            yield temporary
            # Some writers put a file of their own, with another mode, in its place.
            sync_file(temporary, mode)
            replace(temporary, target)
            sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        _let_go(lock)


def atomic_link(source: Path, dest: Path) -> None:
    """Make ``dest`` another name of ``source``, or a copy where the file system has no hard links; whole or not.

    Raises :class:`WriteError`.
    """
    with atomic_path(dest) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all. Raises :class:`WriteError`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all. Raises :class:`WriteError`."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as JSON with sorted keys, indented by 2, whole or not at all.

    Raises :class:`WriteError`, and :class:`NonFiniteError` for NaN or infinity, which JSON cannot hold.
    """
    write_text(path, dump_json(document, path, indent=2) + "\n")


def dump_json(document: Any, path: Path, indent: int | None = None) -> str:
    """``document`` as JSON with sorted keys, compact without ``indent``; ``path`` is for the error's words only."""
    bad = _find_non_finite(document, "")
    if bad is not None:
        where, value = bad
        raise NonFiniteError(
            f"{path}: '{where}' is {value}, which JSON cannot hold.",
            "Find where that number became non-finite; the file was not written.",
        )
    separators = (",", ":") if indent is None else None
    return json.dumps(document, sort_keys=True, indent=indent, separators=separators, allow_nan=False)


def _find_non_finite(value: Any, where: str) -> tuple[str, float] | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else (where or "the document", value)
    children: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list | tuple):
        children = enumerate(value)
    for key, child in children:
        found = _find_non_finite(child, f"{where}.{key}" if where else str(key))
        if found is not None:
            return found
    return None


def _refuse_special(dest: Path, target: Path) -> None:
    """Renaming over a folder fails late, and over a device it would destroy the device's name."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise WriteError(f"{dest}: cannot write a file here: it is a folder.", "Name a file inside it.")
    if not stat.S_ISREG(mode):
        raise WriteError(f"{dest}: cannot write here: it is not an ordinary file.", "Name an ordinary file.")


def _remove_stale(target: Path) -> None:
    pattern = re.compile(re.escape(f".{target.name}.") + r"([0-9a-f]{16})\.(?:tmp|lock)")
    with os.scandir(target.parent) as entries:
        left = {found[1] for entry in entries if (found := pattern.fullmatch(entry.name))}
    for token in left:
        temporary, lock = _names(target, token)
        # A lock that somebody holds, or a file system without locks: then nobody cleans here.
        with contextlib.suppress(OSError, NotImplementedError), FileLock(lock, timeout=0):
            temporary.unlink(missing_ok=True)
            lock.unlink()


def _names(target: Path, token: str) -> tuple[Path, Path]:
    """A temporary of ``target`` and its lock."""
    return target.parent / f".{target.name}.{token}.tmp", target.parent / f".{target.name}.{token}.lock"


# How often a name is drawn for a temporary whose lock another one may take for stale.
_TRIES = 32


def _create(target: Path) -> tuple[Path, int, BaseFileLock]:
    """A new temporary, closed, for nothing that is open can be replaced on every system; its mode; its lock."""
    left = _TRIES
    while True:
        left -= 1
        path, beside = _names(target, secrets.token_hex(8))
        lock = FileLock(beside, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            # Where no lock ever comes about, as in /proc, the system is asked for the file, and says why not.
            if left:
                continue
        except NotImplementedError:  # a file system without locks: then nobody cleans here either
            pass
        if left and lock.is_locked and not beside.exists():  # taken for stale between its creation and its lock
            lock.release()
            continue
        try:
            # The kernel applies the umask here; asking for the umask itself would change it for every other thread.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                return path, stat.S_IMODE(os.fstat(descriptor).st_mode), lock
            finally:
                os.close(descriptor)
        except BaseException:
            _let_go(lock)
            raise


def _let_go(lock: BaseFileLock) -> None:
    with contextlib.suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


@contextlib.contextmanager
def _as_write_error(dest: Path, folder: Path, ours: set[str] | None) -> Iterator[None]:
    """Turn the disk's refusals into :class:`WriteError`; ``ours`` names the paths they may be about (None: any)."""
    try:
        yield
    except Exception as error:
        cause = _os_error(error, ours)
        if cause is None:
            raise
        raise _write_error(dest, folder, cause) from error


def _os_error(error: BaseException, ours: set[str] | None) -> OSError | None:
    """The refusal of the disk behind ``error``, or None where it is about something else.

    torch's and safetensors' native writers raise errors of their own, with the system's one behind or in the words.
    """
    if isinstance(error, OSError):
        about = {str(name) for name in (error.filename, error.filename2) if name is not None}
        return error if ours is None or not about or about & ours else None
    seen: BaseException | None = error
    for _ in range(16):
        seen = seen and (seen.__cause__ or seen.__context__)
        if isinstance(seen, OSError):
            return _os_error(seen, ours)
    number = re.search(r"\bos error (\d+)\b", str(error))
    if number is not None:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter failed|inline_container", str(error)):
        return OSError(errno.EIO, "torch could not write all bytes")
    return None


def _write_error(dest: Path, folder: Path, error: OSError) -> WriteError:
    number = error.errno or 0
    reason = error.strerror or str(error) or type(error).__name__
    reason = reason[0].lower() + reason[1:]
    if number in DISK_FULL:
        return WriteError(
            f"{dest}: could not be written: {reason}; {_free(folder)}. Nothing that stood there was changed.",
            "Free some space on that disk or choose another place, and run the same command again.",
        )
    return WriteError(
        f"{dest}: could not be written: {reason}. Nothing that stood there was changed.",
        _FIXES.get(number, _ELSEWHERE),
    )


def _free(folder: Path) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return "the free space is not known"
    return f"{free:,} bytes ({free / 1e6:,.1f} MB) are free"
