"""Image folders: torchvision's layout and order, decoding, and the memory map."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize

from idsnn_cli.data import TrainBatches, image_files, load_data, plan_data
from idsnn_cli.errors import DataError, WriteError
from idsnn_cli.recipe.schema import Augment, Data


def write_images(folder: Path, count: int, seed: int, size: tuple[int, int] = (50, 40)) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for i in range(count):
        coarse = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((size[0] + i, size[1]), Image.Resampling.BICUBIC)
        image.save(folder / f"image {i}.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog", "emu")):
        write_images(tmp_path / "set" / "train" / name, 5 + number, number)
        write_images(tmp_path / "set" / "test" / name, 2, 10 + number, (40, 60))
    return tmp_path / "set"


def section_of(path: Path, **keys: int) -> Data:
    return Data.model_validate({"dataset": "folder", "path": path, "image_size": 16, **keys})


def test_order_labels_and_pixels_are_torchvision_s(pictures: Path) -> None:
    write_images(pictures / "train" / "dog" / "deeper", 2, 50)
    (pictures / "train" / "dog" / "notes.txt").write_text("not an image")
    (pictures / "train" / ".cache").mkdir()
    bundle = load_data(section_of(pictures), seed=0)
    assert bundle.classes == ("cat", "dog", "emu")
    (pictures / "train" / ".cache").rmdir()
    for split, name in ((bundle.train, "train"), (bundle.test, "test")):
        theirs = ImageFolder(str(pictures / name), Compose([Resize(16), CenterCrop(16)]))
        assert split.labels.tolist() == theirs.targets
        for image, (expected, _) in zip(split.images, theirs, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_the_plan_counts_without_decoding(pictures: Path) -> None:
    (pictures / "train" / "cat" / "image 0.png").write_bytes(b"broken, but only its name is read")
    plan = plan_data(section_of(pictures, validation=3))
    assert plan.counts == {"train": 15, "validation": 3, "test": 6}
    assert plan.image_bytes == 24 * 3 * 16 * 16
    assert (plan.num_classes, plan.image_size) == (3, (16, 16))
    assert plan_data(Data(dataset="folder", path=pictures)).image_size == (32, 32)


def test_a_val_folder_serves_as_validation(pictures: Path) -> None:
    write_images(pictures / "val" / "emu", 4, 60)
    bundle = load_data(section_of(pictures), seed=0)
    assert bundle.validation is not None
    assert bundle.validation.labels.tolist() == [2] * 4
    assert plan_data(section_of(pictures)).counts["validation"] == 4


def test_every_mode_of_image_is_shown_in_colour(pictures: Path) -> None:
    folder = pictures / "train" / "cat"
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1", "I;16"):
        image = Image.new(mode, (20, 30))
        suffix = "tif" if mode == "CMYK" else "png"
        image.save(folder / f"mode {mode.replace(';', '')}.{suffix}")
    Image.new("P", (20, 30)).save(folder / "transparent.png", transparency=bytes([0, 128, 255]))
    assert load_data(section_of(pictures), seed=0).train.images.shape == (18 + 8, 3, 16, 16)


def test_large_sets_go_through_a_memory_map(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    section = section_of(pictures, validation=3)
    in_memory = load_data(section, seed=0)
    assert not (tmp_path / "cache").exists()
    said: list[str] = []
    mapped = load_data(section, seed=0, max_memory_gb=1e-5, say=said.append)
    assert "24 images" in said[0]
    assert "memory map" in said[0]
    assert mapped.fingerprint == in_memory.fingerprint
    assert mapped.mean == in_memory.mean
    cached = sorted((tmp_path / "cache" / "idsnn" / "folder").glob("*.npy"))
    assert len(cached) == 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    times = [path.stat().st_mtime_ns for path in cached]

    def decode_again(files: object, size: int) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_files, "decode_chunks", decode_again)
    again = load_data(section, seed=0, max_memory_gb=1e-5)
    assert torch.equal(again.train.images, in_memory.train.images)
    assert [path.stat().st_mtime_ns for path in cached] == times
    batches = TrainBatches(again.train, batch_size=4, augment=Augment(), seed=0, device="cpu", fill=again.mean)
    assert sum(len(batch.labels) for batch in batches.epoch(0)) == len(again.train)
    os.utime(pictures / "test" / "cat" / "image 0.png", ns=(1, 1))
    with pytest.raises(AssertionError, match="decoded again"):
        load_data(section, seed=0, max_memory_gb=1e-5)


def test_a_memory_map_is_whole_or_not_there(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (pictures / "train" / "emu" / "image 6.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"image 6\.png"):
        load_data(section_of(pictures), seed=0, max_memory_gb=1e-6)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".npy", ".tmp")]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(WriteError, match="free") as caught:
        load_data(section_of(pictures), seed=0, max_memory_gb=1e-6)
    assert caught.value.fix is not None
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_broken_images_are_named(pictures: Path) -> None:
    path = pictures / "test" / "dog" / "image 1.png"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:60] + b"\0" * 40 + whole[100:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"dog/image 1\.png"):
            load_data(section_of(pictures), seed=0)


def test_layouts_that_do_not_fit(pictures: Path, tmp_path: Path) -> None:
    write_images(pictures / "test" / "dgo", 1, 0)
    with pytest.raises(DataError, match="Did you mean 'dog'"):
        plan_data(section_of(pictures))
    (pictures / "test" / "dgo").rename(tmp_path / "elsewhere")
    (pictures / "train" / "fox").mkdir()
    with pytest.raises(DataError, match="fox holds no image"):
        plan_data(section_of(pictures))
    (pictures / "train" / "fox").rmdir()
    plan_data(section_of(pictures))
    (pictures / "test").rename(tmp_path / "test")
    with pytest.raises(DataError, match=r"no folder .*test"):
        plan_data(section_of(pictures))
    (pictures / "test").mkdir()
    with pytest.raises(DataError, match="no images"):
        plan_data(section_of(pictures))
    (tmp_path / "bare" / "train").mkdir(parents=True)
    (tmp_path / "bare" / "test").mkdir()
    with pytest.raises(DataError, match="no folder for a class"):
        plan_data(section_of(tmp_path / "bare"))
