"""CIFAR in torchvision's layout, made small, and the real one where IDSNN_DATA names it."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from idsnn_cli.data import data_root, load_data, plan_data
from idsnn_cli.data.channels import CONSTANTS
from idsnn_cli.data.load import measure
from idsnn_cli.data.sets import cifar10
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.schema import Data, MeanStd

Make = Callable[[Path], np.ndarray[Any, Any]]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes CIFAR-100's files with 200 images, and makes torchvision take their checksums for the official ones."""
    reader = torchvision.datasets.CIFAR100

    def make(root: Path) -> np.ndarray[Any, Any]:
        folder = root / reader.base_folder
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (200, 3072), dtype=np.uint8)
        labels = [i % 100 for i in range(200)]
        contents = {
            "train": {"data": pixels, "fine_labels": labels},
            "test": {"data": pixels[:100], "fine_labels": labels[:100]},
            "meta": {"fine_label_names": [f"name {i}" for i in range(100)]},
        }
        sums = {}
        for name, content in contents.items():
            data = pickle.dumps(content)
            (folder / name).write_bytes(data)
            sums[name] = hashlib.md5(data).hexdigest()
        monkeypatch.setattr(reader, "train_list", [["train", sums["train"]]])
        monkeypatch.setattr(reader, "test_list", [["test", sums["test"]]])
        monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": sums["meta"]})
        return pixels.reshape(200, 3, 32, 32)

    return make


def test_torchvision_s_layout_is_read(tmp_path: Path, small: Make) -> None:
    pixels = small(tmp_path)
    section = Data(dataset="cifar100", root=tmp_path)
    bundle = load_data(section, seed=0)
    assert np.array_equal(bundle.train.images.numpy(), pixels)
    assert bundle.train.images.is_contiguous()
    assert bundle.train.labels.tolist() == [i % 100 for i in range(200)]
    assert bundle.classes[7] == "name 7"
    assert (bundle.mean, bundle.std) == CONSTANTS["cifar100"]
    assert bundle.validation is None
    assert plan_data(section).files == (tmp_path / "cifar-100-python",)
    assert plan_data(section).num_classes == 100


def test_a_damaged_file_is_named(tmp_path: Path, small: Make) -> None:
    small(tmp_path)
    with (tmp_path / "cifar-100-python" / "test").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DataError) as caught:
        load_data(Data(dataset="cifar100", root=tmp_path), seed=0)
    assert caught.value.fix is not None
    assert "data.download=true" in caught.value.fix


def test_each_file_is_read_for_its_checksum_once(tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, read, read_by_torchvision = small(tmp_path), list[str](), list[str]()
    digest, whole = hashlib.file_digest, torchvision.datasets.utils.calculate_md5

    def seen(file: Any, name: str) -> Any:
        read.append(Path(file.name).name)
        return digest(file, name)

    def seen_by_torchvision(path: str, *more: Any) -> Any:
        read_by_torchvision.append(path)
        return whole(path, *more)

    monkeypatch.setattr(hashlib, "file_digest", seen)
    monkeypatch.setattr(torchvision.datasets.utils, "calculate_md5", seen_by_torchvision)
    section = Data(dataset="cifar100", root=tmp_path)
    plan_data(section)
    bundle = load_data(section, seed=0)
    assert sorted(read) == ["meta", "test", "train"]
    assert read_by_torchvision == []
    assert np.array_equal(bundle.test.images.numpy(), pixels[:100])
    # What was changed since is read again.
    with (tmp_path / "cifar-100-python" / "train").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DataError, match="train is cut off or changed"):
        load_data(section, seed=0)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_file_that_is_cut_off_is_named_before_anything_is_done(tmp_path: Path, small: Make, name: str) -> None:
    small(tmp_path)
    path = tmp_path / "cifar-100-python" / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=f"{name} is cut off or changed"):
        plan_data(Data(dataset="cifar100", root=tmp_path))


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_what_is_missing_names_both_ways_out(tmp_path: Path, dataset: str) -> None:
    section = Data.model_validate({"dataset": dataset, "root": tmp_path})
    for act in (plan_data, lambda section: load_data(section, seed=0)):
        with pytest.raises(DataError) as caught:
            act(section)
        assert caught.value.fix is not None
        assert "data.download=true" in caught.value.fix
        assert "IDSNN_DATA" in caught.value.fix
    plan = plan_data(section.model_copy(update={"download": True}))
    assert plan.download_mb == pytest.approx(170, abs=2)
    assert plan.downloads[0].startswith("https://www.cs.toronto.edu/")
    assert plan.counts == {"train": 50_000, "test": 10_000}
    assert plan.missing
    assert not list(tmp_path.iterdir())


def test_download_is_torchvision_s_and_its_failure_is_typed(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = Data(dataset="cifar100", root=tmp_path, download=True)
    said: list[str] = []

    def refuse(reader: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", refuse)
    with pytest.raises(DataError, match="no route to host"):
        load_data(section, seed=0, say=said.append)
    assert "169 MB" in said[0]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", lambda reader: small(Path(reader.root)))
    assert len(load_data(section, seed=0).test) == 100


def test_the_root_is_the_recipe_s_then_the_variable_s_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("IDSNN_DATA", str(tmp_path / "named"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root(None) == tmp_path / "named"
    monkeypatch.delenv("IDSNN_DATA")
    assert data_root(None) == tmp_path / "cache" / "idsnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_root(None) == Path.home() / ".cache" / "idsnn"


def test_cifar10_reads_a_packed_file_in_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDSNN_DATA", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(40) % 10
    packed = tmp_path / "cifar10.npz"
    np.savez(packed, train_images=images, train_labels=labels, test_images=images[:20], test_labels=labels[:20])
    bundle = load_data(Data(dataset="cifar10"), seed=0)
    assert bundle.name == "cifar10"
    assert bundle.classes == cifar10.CLASSES
    assert (bundle.mean, bundle.std) == CONSTANTS["cifar10"]
    assert np.array_equal(bundle.test.images.numpy(), images[:20].transpose(0, 3, 1, 2))
    assert plan_data(Data(dataset="cifar10")).files == (packed,)
    np.savez(packed, train_images=images, train_labels=labels % 4, test_images=images, test_labels=labels % 4)
    with pytest.raises(DataError, match="4 classes where 10"):
        plan_data(Data(dataset="cifar10"))


@pytest.mark.parametrize("choice", ["cifar10", "cifar100", "imagenet", "none"])
def test_normalisation_can_be_named_or_given(choice: str) -> None:
    section = Data.model_validate({"dataset": "digits", "normalise": choice})
    bundle = load_data(section, seed=0)
    assert (bundle.mean, bundle.std) == CONSTANTS[choice]
    numbers = MeanStd(mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    bundle = load_data(section.model_copy(update={"normalise": numbers}), seed=0)
    assert (bundle.mean, bundle.std) == (numbers.mean, numbers.std)


def test_a_constant_channel_has_a_deviation_to_divide_by() -> None:
    mean, std = measure(torch.full((4, 3, 8, 8), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2, 0.2, 0.2))
    assert std == (1.0, 1.0, 1.0)


def _real(*names: str) -> Path:
    root = Path(os.environ.get("IDSNN_DATA", ""))
    if "IDSNN_DATA" not in os.environ or not all((root / name).exists() for name in names):
        pytest.skip(f"IDSNN_DATA names no folder with {' and '.join(names)}")
    return root


def test_the_real_cifar100_has_the_constants_of_the_method() -> None:
    root = _real("cifar-100-python")
    bundle = load_data(Data(dataset="cifar100", root=root), seed=0)
    assert (len(bundle.train), len(bundle.test), bundle.num_classes) == (50_000, 10_000, 100)
    mean, std = measure(bundle.train.images)
    assert mean == pytest.approx(CONSTANTS["cifar100"][0], abs=3e-4)
    assert std == pytest.approx(CONSTANTS["cifar100"][1], abs=1e-3)
    assert torch.bincount(bundle.train.labels).tolist() == [500] * 100
    assert bundle.classes[0] == "apple"


def test_the_real_cifar10_subset_is_balanced() -> None:
    root = _real("cifar10.npz")
    bundle = load_data(Data(dataset="cifar10", root=root, subset=5003, test_subset=500), seed=0)
    counts = torch.bincount(bundle.train.labels)
    assert int(counts.max() - counts.min()) == 1
    assert torch.bincount(bundle.test.labels).tolist() == [50] * 10
    assert measure(bundle.train.images)[0] == pytest.approx(CONSTANTS["cifar10"][0], abs=0.01)
