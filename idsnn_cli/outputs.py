"""Whether a file can be written where a command is told to: what would stop the writing stops the work before it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from idsnn_cli.errors import UsageError, WriteError


def check_output(path: Path, option: str = "-o", *, force: bool, reads: Iterable[object] = ()) -> None:
    """Raise :class:`WriteError` where ``path``, which ``option`` names, can be no file or is one and not ``force``, and
    :class:`UsageError`, forced or not, where it is one of the files that the command ``reads``.

    What is no path among ``reads``, as a published network, is none of them.
    """
    files = (each for each in reads if isinstance(each, str | Path))
    if path.exists() and any(os.path.realpath(path) == os.path.realpath(each) for each in files):
        raise UsageError(f"{path} would be read and replaced by the same command", f"Give another {option} FILE.")
    if not path.parent.is_dir():
        raise WriteError(f"{path} cannot be written: its folder does not exist", "Create the folder first.")
    if path.is_dir():
        raise WriteError(f"{path} cannot be written: it is a folder", "Name a file inside it.")
    if path.exists() and not force:
        raise WriteError(f"{path} exists already", f"Replace it with --force, or give another {option} FILE.")
