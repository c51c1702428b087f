"""What a file is, by its first bytes: a format that is read here, or the words that say what it is instead."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from idsnn_cli.errors import CheckpointError
from idsnn_cli.extras import missing
from idsnn_cli.text import excerpt

Format = Literal["safetensors", "zip", "legacy", "nir"]

# torch.save's magic number, the first object of a file in the format before zip archives.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LARGEST_HEADER = 100_000_000  # safetensors' own limit
_HEAD = 1024
# The packages that read NIR, of the extra of that name.
NIR = ("nir", "h5py")

# Of HDF5, in which NIR keeps its graphs.
_HDF5 = b"\x89HDF\r\n\x1a\n"
# First bytes -> (what the file is, what to do).
_UNPACK = "Unpack it, and give the checkpoint inside."
_EXPORT = "Give a PyTorch checkpoint: save model.state_dict() with torch.save or safetensors."
_AGAIN = "Download it again; on a page that shows a file, the link to the raw file."
_MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a git-LFS pointer, not the file itself", "Run 'git lfs pull' where it came from."),
    (b"\x1f\x8b", "gzip-compressed", _UNPACK),
    (b"BZh", "bzip2-compressed", _UNPACK),
    (b"\xfd7zXZ\0", "xz-compressed", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (_HDF5, "an HDF5 file, as Keras writes", _EXPORT),
    (b"\x93NUMPY", "a numpy array", _EXPORT),
    (b"\x89PNG", "a PNG image", _EXPORT),
    (b"\xff\xd8\xff", "a JPEG image", _EXPORT),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"GGUF", "a GGUF file", _EXPORT),
    (b"\x7fELF", "a program", _EXPORT),
)


def sniff(path: Path) -> Format:
    """The format of the file at ``path``, by content alone. Raises :class:`CheckpointError` saying what it is."""
    size = check_is_file(path)
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_LEGACY):
        return "legacy"
    if _opens_safetensors(path, head, size):
        return "safetensors"
    if head.startswith(_HDF5) and (path.suffix == ".nir" or not missing(*NIR)):
        return "nir"
    what, fix = _what_else(path, head)
    raise CheckpointError(f"{path}: not a checkpoint: it is {what}.", fix)


def check_is_file(path: Path) -> int:
    """The size in bytes of an ordinary file that has some. Raises :class:`CheckpointError` for anything else."""
    try:
        status = path.stat()
    except FileNotFoundError:
        link = " (a link whose target is gone)" if path.is_symlink() else ""
        raise CheckpointError(f"{path}: there is no such file{link}.", "Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f"{path}: this is a folder.", f"Name the checkpoint file{_checkpoints_inside(path)}.")
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path}: this is not an ordinary file.", "Name a checkpoint file.")
    if status.st_size == 0:
        raise CheckpointError(f"{path}: the file is empty.", _AGAIN)
    return status.st_size


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The typed form of the system's refusal to read ``path``."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else excerpt(str(error), 120)
    return CheckpointError(
        f"{path}: could not be read: {reason.lower().rstrip('.')}.", "Check the path and its permissions."
    )


def _checkpoints_inside(folder: Path) -> str:
    suffixes = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".npz")
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(suffixes))
    except OSError:
        return ""
    more = ", ..." if len(names) > 3 else ""
    return f" inside it: {', '.join(names[:3])}{more}" if names else ""


def _opens_safetensors(path: Path, head: bytes, size: int) -> bool:
    """Whether the file opens as safetensors do; raises where it does so but cannot be whole."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or length > _LARGEST_HEADER:
        return False
    if 8 + length > size:
        raise CheckpointError(
            f"{path}: a truncated safetensors file: its header alone has {length:,} bytes, the file {size:,}.", _AGAIN
        )
    return True


def _what_else(path: Path, head: bytes) -> tuple[str, str]:
    for magic, what, fix in _MAGICS:
        if head.startswith(magic):
            return what, fix
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return (
            "a Python pickle that torch.save did not write, which could run code and is not opened",
            "Load it where you trust it, and save its tensors with safetensors or torch.save.",
        )
    text = _as_text(head)
    if path.suffix == ".onnx":
        return "an ONNX model by its name, which is written here and not read", _EXPORT
    if text is None:
        if path.suffix == ".safetensors":
            return "no safetensors file either: its header's length makes no sense, so it is damaged", _AGAIN
        return "of no format that is known here (safetensors, torch.save's or numpy's)", _EXPORT
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page", _AGAIN
    if start.startswith("<"):
        return "XML or HTML text", _AGAIN
    if start.startswith(("{", "[")):
        return "JSON text", _EXPORT
    return f"text that begins with '{excerpt(text, 40)}'", _EXPORT


def _as_text(head: bytes) -> str | None:
    """``head`` as text, or None where it is binary (a multi-byte character may be cut at its end)."""
    for end in range(len(head), max(len(head) - 4, 0), -1):
        try:
            text = head[:end].decode()
        except UnicodeDecodeError:
            continue
        return None if any(ord(c) < 32 and c not in "\t\r\n\f" for c in text) else text
    return None
