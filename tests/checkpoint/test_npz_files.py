"""``.npz`` state dicts: the same values as numpy's own reader, lazily, and never a pickle."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError

ARRAYS: dict[str, Any] = {
    "conv.weight": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "half": np.ones(2, np.float16),
    "count": np.array(7, np.int64),
    "none": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_values_are_numpys_own(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "weights.npz"
    (np.savez_compressed if compressed else np.savez)(path, **ARRAYS, note=np.array("words"))
    with open_checkpoint(path) as file:
        assert file.keys() == tuple(ARRAYS)
        assert list(file.others) == ["note"]
        for key, array in ARRAYS.items():
            tensor = file.get(key)
            assert (
                (file.shape(key), file.dtype(key))
                == (array.shape, tensor.dtype)
                == (tuple(tensor.shape), file.dtype(key))
            )
            assert np.array_equal(tensor.numpy(), array)
            assert tensor.dtype.itemsize == array.itemsize
        with pytest.raises(KeyError):
            file.get("absent")


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, weight=np.zeros(2), payload=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="'payload' holds Python objects") as caught:
        open_checkpoint(path)
    assert caught.value.fix


def test_one_array_is_read_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    np.savez(path, good=np.arange(4.0), bad=np.arange(1000.0))
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(1000.0).tobytes()) + 4000] ^= 1
    path.write_bytes(bytes(content))
    with open_checkpoint(path) as file:
        assert torch.equal(file.get("good"), torch.arange(4.0, dtype=torch.float64))
        with pytest.raises(CheckpointError, match="damaged numpy archive"):
            file.get("bad")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (60_000_000,)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(60):
            member.write(bytes(4_000_000))
    with pytest.raises(CheckpointError, match="claim"):
        open_checkpoint(path)


def test_damaged_archives_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, **ARRAYS)
    whole, rng = path.read_bytes(), random.Random(3)
    refusals: list[str] = []
    for _ in range(200):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.25 else whole)
        for _ in range(rng.choice((1, 2, 8))):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            with open_checkpoint(path) as file:
                for key, shape in file.shapes().items():
                    assert tuple(file.get(key).shape) == shape
        except CheckpointError as error:
            refusals.append(error.message)
    assert len(refusals) > 50
    assert all("\n" not in message for message in refusals)


def test_a_header_that_unpacks_to_far_more_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "header.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(b"\x93NUMPY\x02\x00" + (240_000_000).to_bytes(4, "little"))
        for _ in range(60):
            member.write(b" " * 4_000_000)
    with pytest.raises(CheckpointError, match="claim"):
        open_checkpoint(path)
