"""The npz layout: every form that is taken, and an error with a fix for every one that is not."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from idsnn_cli.data import load_data, plan_data
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.schema import Data

Arrays = dict[str, np.ndarray[Any, Any]]


def arrays_of(classes: int = 4, channels: tuple[int, ...] = (3,)) -> Arrays:
    generator = np.random.default_rng(0)
    arrays: Arrays = {}
    for name, count in (("train", 40), ("val", 8), ("test", 12)):
        arrays[f"{name}_images"] = generator.integers(0, 256, (count, 10, 9, *channels), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(count) % classes
    return arrays


def saved(folder: Path, arrays: Arrays) -> Data:
    path = folder / "set.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes allow_pickle for one of the arrays
    return Data(dataset="npz", path=path)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16])
@pytest.mark.parametrize("column", [False, True])
def test_every_form_is_read(tmp_path: Path, channels: tuple[int, ...], kind: type, column: bool) -> None:
    arrays = arrays_of(channels=channels)
    given = dict(arrays)
    for name in ("train", "val", "test"):
        labels: np.ndarray[Any, Any] = arrays[f"{name}_labels"].astype(kind)
        given[f"{name}_labels"] = labels[:, None] if column else labels
    bundle = load_data(saved(tmp_path, given), seed=0)
    assert bundle.validation is not None
    for name, split in (("train", bundle.train), ("val", bundle.validation), ("test", bundle.test)):
        images = arrays[f"{name}_images"]
        full = images.reshape(*images.shape[:3], -1)
        assert np.array_equal(split.images.numpy(), full.transpose(0, 3, 1, 2))
        assert split.labels.dtype == torch.int64
        assert np.array_equal(split.labels.numpy(), arrays[f"{name}_labels"])
    assert bundle.classes == ("0", "1", "2", "3")
    plan = plan_data(saved(tmp_path, given))
    assert plan.counts == {"train": 40, "validation": 8, "test": 12}
    assert plan.image_bytes == 60 * (channels or (1,))[0] * 90
    assert (plan.num_classes, plan.image_size) == (4, (10, 9))


def test_validation_is_taken_from_training_where_asked(tmp_path: Path) -> None:
    section = saved(tmp_path, arrays_of()).model_copy(update={"validation": 12})
    said: list[str] = []
    bundle = load_data(section, seed=0, say=said.append)
    assert bundle.validation is not None
    assert (len(bundle.train), len(bundle.validation)) == (28, 12)
    assert any("training part" in line for line in said)


def test_the_fingerprint_follows_the_images_that_are_used(tmp_path: Path) -> None:
    arrays = arrays_of()
    section = saved(tmp_path, arrays)
    marks = {load_data(section, seed=0).fingerprint}
    assert load_data(section, seed=1).fingerprint in marks  # nothing is drawn, so the seed has no part in it
    for key in ("train_images", "val_images", "test_labels"):
        changed = {name: array.copy() for name, array in arrays.items()}
        changed[key].flat[0] = (changed[key].flat[0] + 1) % 4
        marks.add(load_data(saved(tmp_path, changed), seed=0).fingerprint)
    subset = saved(tmp_path, arrays).model_copy(update={"subset": 20})
    marks |= {load_data(subset, seed=0).fingerprint, load_data(subset, seed=1).fingerprint}
    assert len(marks) == 6


def _without(*keys: str) -> Arrays:
    return {key: array for key, array in arrays_of().items() if key not in keys}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (_without("test_labels"), "test_labels"),
        (_without("val_labels"), "val_labels"),
        (arrays_of() | {"train_images": np.zeros((40, 10, 9, 3), np.float32)}, "float32"),
        (arrays_of() | {"train_images": np.array([None] * 40)}, "unpickled"),
        (arrays_of() | {"test_labels": np.array([{}] * 12)}, "unpickled"),
        (arrays_of() | {"train_images": np.zeros((40, 3, 10, 9), np.uint8)}, "shape"),
        (arrays_of() | {"train_images": np.zeros((40, 5, 10, 9, 1), np.uint8)}, "shape"),
        (arrays_of() | {"test_images": np.zeros((12, 10, 8, 3), np.uint8)}, "10x8"),
        (arrays_of() | {"test_images": np.zeros((0, 10, 9, 3), np.uint8)}, "empty"),
        (arrays_of() | {"train_labels": np.zeros(39, np.int64)}, "39 labels for 40"),
        (arrays_of() | {"train_labels": np.zeros((40, 14), np.int64)}, "shape"),
        (arrays_of() | {"train_labels": np.zeros(40)}, "float64"),
        (arrays_of() | {"train_labels": np.arange(40) % 4 - 1}, "-1"),
        (arrays_of() | {"train_labels": np.arange(40) % 4 + 1}, "class 0"),
        (arrays_of() | {"train_labels": np.full(40, 2**63, np.uint64)}, str(2**63)),
        (arrays_of() | {"test_labels": np.arange(12) % 5}, "0 to 3"),
    ],
)
@pytest.mark.parametrize("act", [plan_data, lambda section: load_data(section, seed=0)])
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: Arrays, words: str, act: Any) -> None:
    with pytest.raises(DataError) as caught:
        act(saved(tmp_path, arrays))
    assert words in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("act", [plan_data, lambda section: load_data(section, seed=0)])
def test_files_that_are_no_npz(tmp_path: Path, act: Any) -> None:
    whole = saved(tmp_path, arrays_of())
    assert whole.path is not None
    content = whole.path.read_bytes()
    for name, data in {
        "half": content[: len(content) // 2],
        "page": b"<!DOCTYPE html>",
        "empty": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(DataError, match="not a whole"):
            act(Data(dataset="npz", path=path))
    other = tmp_path / "other.npz"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(DataError):
        act(Data(dataset="npz", path=other))
    with pytest.raises(DataError, match="no file"):
        act(Data(dataset="npz", path=tmp_path / "absent.npz"))


def test_flipped_bytes_are_an_error(tmp_path: Path) -> None:
    section = saved(tmp_path, arrays_of())
    assert section.path is not None
    content = bytearray(section.path.read_bytes())
    content[len(content) // 4] ^= 0xFF  # inside train_images: the archive's checksum no longer fits
    section.path.write_bytes(content)
    with pytest.raises(DataError, match="not a whole"):
        load_data(section, seed=0)


def test_an_array_with_too_few_bytes_is_named_by_the_plan(tmp_path: Path) -> None:
    section = saved(tmp_path, arrays_of())
    assert section.path is not None
    with zipfile.ZipFile(section.path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["test_images.npy"] = members["test_images.npy"][:-100]
    with zipfile.ZipFile(section.path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(DataError, match=r"test_images\.npy has"):
        plan_data(section)
    whole = section.path.read_bytes()
    section.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"not a whole \.npz file"):
        plan_data(section)
