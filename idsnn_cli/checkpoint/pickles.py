"""Checkpoints that torch.save wrote: read by torch's safe reader only, then flattened into dotted names."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.checkpoint.arrays import is_plain, refuse_odd
from idsnn_cli.checkpoint.integrity import AGAIN, check_archive, check_pickle
from idsnn_cli.checkpoint.legacy_modules import CLASS_OF, without_references
from idsnn_cli.checkpoint.numpy_records import STAND_INS, ArrayRecord
from idsnn_cli.checkpoint.sniffing import Format
from idsnn_cli.checkpoint.stand_ins import CLASS, CalledError, Inert, stand_ins
from idsnn_cli.errors import CheckpointError
from idsnn_cli.text import excerpt

_SAVE_STATE = "Save model.state_dict() instead of the model, where you trust the file, and give that."
_MOST_LEAVES = 200_000
_DEEPEST = 100
_SCANNED = 16_000_000  # bytes of a pickle in which the marks of a whole module are looked for


def read_pickle(path: Path, kind: Format) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]:
    """The tensors and the other leaves of a zip or legacy file of torch.save, by dotted name, and notes for the user.

    Nothing in the file is executed: a name that is not on torch's list of safe ones (with argparse.Namespace and
    numpy's numbers and arrays) stops the reading, but for whole modules, in which such a name stands for an empty
    class. Zip files are memory-mapped. Raises :class:`CheckpointError`.
    """
    size = path.stat().st_size
    if kind == "zip":
        _check_kind(path, check_archive(path))
    check_pickle(path, _pickle_bytes(path, kind), size)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace, *STAND_INS]):
            warnings.simplefilter("ignore")  # torch's remarks about old formats would reach the user as noise
            try:
                tensors, others = _split(path, _load(path, kind), size)
                notes: tuple[str, ...] = ()
            except pickle.UnpicklingError:
                if not _is_whole_module(path, kind):
                    raise
                tensors, others = _split_module(path, kind, size)
                notes = (_note(others),)
    except CheckpointError:
        raise
    except CalledError as error:
        raise _wants_to_import(path, error.name) from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise _explain(path, kind, error) from error
    if not tensors:
        refuse_odd(path, others)
        raise CheckpointError(f"{path}: there are no named tensors in it.", "Give a file that holds a state dict.")
    return tensors, others, notes


def _split_module(path: Path, kind: Format, size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What whole modules in the file hold, read with inert classes for all that torch does not know."""
    known = {"argparse.Namespace", *(name for _, name in STAND_INS)}
    classes: list[Any] = [each for each in stand_ins(_pickle_bytes(path, kind)) if each[1] not in known]
    with torch.serialization.safe_globals([*classes, CLASS_OF]):
        if kind == "zip":
            return _split(path, _load(path, kind), size)
        stream = io.BytesIO(without_references(path.read_bytes()))
        return _split(path, torch.load(stream, map_location="cpu", weights_only=True), size)


def _note(others: Mapping[str, Any]) -> str:
    name = excerpt(next((value for key, value in others.items() if key.rpartition(".")[2] == CLASS), "of no class"))
    return f"it is a whole pickled module ({name}): its tensors are read, and its code was not run"


def _load(path: Path, kind: Format) -> Any:
    if not path.name.endswith(".safetensors"):
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=kind == "zip")
    with path.open("rb") as handle:  # torch goes by the name where it is given one, and cannot map where it is not
        return torch.load(handle, map_location="cpu", weights_only=True)


def _check_kind(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if any("/code/" in name for name in names):
        raise CheckpointError(
            f"{path}: a TorchScript program, not a state dict.", "Save the state_dict() of the model it was made from."
        )
    if any(name.endswith("models/model.json") for name in names):
        raise CheckpointError(
            f"{path}: a program of torch.export, which runs a network and does not describe it.",
            "Give the checkpoint that it was exported from; the program itself is for torch.export.load.",
        )
    if not any(name.endswith("data.pkl") for name in names):
        what = "a zip archive that neither torch.save nor numpy.savez wrote"
        raise CheckpointError(f"{path}: not a checkpoint: it is {what}.", "Give a file of torch.save or safetensors.")
    # Mapped storages are the archive's own bytes: compressed ones would be read as numbers.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path}: a file of torch.save that was zipped again with compression.",
            "Load it with torch.load(weights_only=True), and save it again.",
        )


def _split(path: Path, content: Any, size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    storages: dict[int, int] = {}
    for name, leaf in _leaves(path, content):
        value = leaf.tensor() if isinstance(leaf, ArrayRecord) else leaf
        if name in tensors or name in others:
            raise CheckpointError(f"{path}: the name '{excerpt(name)}' stands twice in it.", AGAIN)
        if not isinstance(value, Tensor) or not is_plain(value):
            others[name] = value
            continue
        tensors[name] = value.detach()
        storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        # A damaged size makes torch enlarge the storage, or repeat it: such a tensor was never in the file.
        if value.numel() * value.element_size() > size:
            raise CheckpointError(f"{path}: damaged: '{excerpt(name)}' claims more bytes than the file has.", AGAIN)
    if sum(storages.values()) > size:
        raise CheckpointError(f"{path}: damaged: its tensors claim more bytes than the file has.", AGAIN)
    return tensors, others


def _leaves(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf with its dotted name, in order. Lists are leaves unless they hold tensors or containers."""
    pending: list[tuple[str, int, Any]] = [("", 0, content)]
    count = 0
    while pending:
        name, depth, value = pending.pop()
        count += 1
        # Containers that hold each other, or each other twice, have no end or one that nobody lives to see.
        if count > _MOST_LEAVES or depth > _DEEPEST:
            raise CheckpointError(f"{path}: its containers are nested without end.", "Give a plain state dict.")
        children = _children(value)
        if children is None:
            if name:
                yield name, value
            continue
        prefix = f"{name}." if name else ""
        pending += [(f"{prefix}{key}", depth + 1, child) for key, child in reversed(children)]


def _children(value: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, argparse.Namespace):
        return list(vars(value).items()) or None
    if isinstance(value, Inert):
        return value.children() if value.is_module else None
    if isinstance(value, list | tuple) and any(
        isinstance(item, Tensor | ArrayRecord | Inert | Mapping | list | tuple) for item in value
    ):
        return list(enumerate(value))
    return None


def _wants_to_import(path: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: a pickle that wants to import '{name}', which could run code; it was not opened.",
        "Ask its author for the state dict alone (torch.save of tensors, or safetensors).",
    )


def _explain(path: Path, kind: Format, error: Exception) -> CheckpointError:
    text = str(error)
    name = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", text)
    if name is None:
        name = re.search(r"(?:unrecognized function|unsupported class) (\S.*)", text)
    if name is not None:
        blocked = excerpt(name[1])
        if _is_whole_module(path, kind) and blocked.partition(".")[0] not in sys.stdlib_module_names:
            return CheckpointError(f"{path}: a whole pickled model, which needs '{blocked}' to run.", _SAVE_STATE)
        return _wants_to_import(path, blocked)
    if re.search(r"Unsupported operand \d+", text) and _protocol(path, kind) > 2:
        return CheckpointError(
            f"{path}: a pickle of protocol {_protocol(path, kind)}; the safe reader reads protocol 2.",
            "Load it where you trust it, and save it again with torch.save's default protocol.",
        )
    reason = excerpt(text, 120) or type(error).__name__
    if "Weights only load failed" in text:
        reason = "its pickle makes no sense"
    return CheckpointError(f"{path}: a truncated or damaged file of torch.save: {reason.rstrip('.')}.", AGAIN)


def _pickle_bytes(path: Path, kind: Format) -> bytes:
    try:
        if kind == "legacy":
            with path.open("rb") as handle:
                return handle.read(_SCANNED)
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(entry) as member:
                return member.read(_SCANNED)
    except Exception:  # only for the words of an error that is raised in any case
        return b""


def _is_whole_module(path: Path, kind: Format) -> bool:
    content = _pickle_bytes(path, kind)
    return b"_parameters" in content and b"_modules" in content


def _protocol(path: Path, kind: Format) -> int:
    # A legacy file opens with its magic number, protocol version and system facts, always of protocol 2.
    content = _pickle_bytes(path, kind)
    return max((content[at.start() + 1] for at in re.finditer(rb"\x80[\x02-\x05]", content[:512])), default=2)
