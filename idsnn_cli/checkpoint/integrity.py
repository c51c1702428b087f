"""Whether a file of torch.save is whole and asks for nothing odd, found out before torch reads it.

torch does not check a zip archive's CRC-32, so that a flipped bit would become another weight; and a pickle can ask for
gigabytes, or import a name of any length, within a few bytes. Nothing is unpickled here: opcodes are only looked at.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import Counter
from pathlib import Path

from idsnn_cli.errors import CheckpointError
from idsnn_cli.text import excerpt

AGAIN = "Download or copy it again."
# Of a name that a pickle imports, the longest that libraries have is a tenth of it.
_LONGEST_NAME = 500
# More than a training state asks for in one object, and little enough to do no harm.
_MOST_BYTES = 100_000_000
# Bytes of a pickle that are looked at; torch's hold names and shapes, which are some megabytes at most.
_LOOKED_AT = 256_000_000
_CHUNK = 1 << 20
# What turns a number into as many bytes.
_FILLED = ("bytearray", "bytes")


def check_archive(path: Path) -> list[zipfile.ZipInfo]:
    """The entries of the zip archive at ``path``, once the bytes of each were found to be those that were stored.

    Raises :class:`CheckpointError` naming the first that is damaged, and for an archive that is not whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            twice = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
            if twice:
                raise CheckpointError(
                    f"{path}: damaged: '{excerpt(twice[0])}' stands twice in it, and readers take one or the other.",
                    AGAIN,
                )
            for entry in entries:
                _check_entry(path, archive, entry)
            return entries
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # zipfile raises many kinds for damaged directories
        raise CheckpointError(f"{path}: a truncated or damaged zip file of torch.save.", AGAIN) from error


def _check_entry(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    # torch can be told not to compute them; then all are 0.
    if entry.CRC == 0 and entry.file_size:
        return
    try:
        with archive.open(entry) as member:
            while member.read(_CHUNK):
                pass
    except OSError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: damaged: the bytes of '{excerpt(entry.filename)}' are not those that were stored "
            "(their CRC-32 checksum differs).",
            AGAIN,
        ) from error


def check_pickle(path: Path, content: bytes, size: int) -> None:
    """Look at every opcode of the pickles that ``content`` begins with; ``size`` is that of the whole file.

    Raises :class:`CheckpointError` for a name of more than 500 letters, and where bytes are made of a number that is
    far beyond the file. What is no pickle is left to the reader.
    """
    stream = io.BytesIO(content[:_LOOKED_AT])
    most = size + _MOST_BYTES
    while stream.tell() < len(content):
        try:
            filled, largest = False, 0
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                    name = str(argument or "")
                    if len(name) > _LONGEST_NAME:
                        raise CheckpointError(
                            f"{path}: a pickle that wants to import a name of {len(name):,} letters "
                            f"('{excerpt(name)}'); it was not opened.",
                            "Ask its author for the state dict alone (torch.save of tensors, or safetensors).",
                        )
                    filled = filled or name.rpartition(" ")[2] in _FILLED
                elif isinstance(argument, int) and not isinstance(argument, bool):
                    largest = max(largest, argument)
            if filled and largest > most:
                raise CheckpointError(
                    f"{path}: a pickle that asks for {largest:,} bytes, and the file has {size:,}; it was not opened.",
                    AGAIN,
                )
        except CheckpointError:
            raise
        except Exception:  # no pickle any more: raw storages, or damage that the reader will name
            return
