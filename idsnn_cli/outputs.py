"""Whether a file can be written where a command is told to: what would stop the writing stops the work before it."""

from __future__ import annotations

from pathlib import Path

from idsnn_cli.errors import WriteError


def check_output(path: Path, option: str = "-o", *, force: bool) -> None:
    """Raise :class:`WriteError` where ``path``, which ``option`` names, can be no file or is one and not ``force``."""
    if not path.parent.is_dir():
        raise WriteError(f"{path} cannot be written: its folder does not exist", "Create the folder first.")
    if path.is_dir():
        raise WriteError(f"{path} cannot be written: it is a folder", "Name a file inside it.")
    if path.exists() and not force:
        raise WriteError(f"{path} exists already", f"Replace it with --force, or give another {option} FILE.")
