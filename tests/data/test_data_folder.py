"""Image folders: torchvision's layout and order, decoding, and the memory map."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
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


def test_the_plan_counts_and_looks_at_a_sample(pictures: Path) -> None:
    plan = plan_data(section_of(pictures, validation=3))
    assert plan.counts == {"train": 15, "validation": 3, "test": 6}
    assert plan.image_bytes == 24 * 3 * 16 * 16
    assert (plan.num_classes, plan.image_size) == (3, (16, 16))
    assert plan_data(Data(dataset="folder", path=pictures)).image_size == (32, 32)
    broken = pictures / "train" / "dog" / "image 3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"image 3\.png cannot be read"):
        plan_data(section_of(pictures))


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

    def decode_again(*_: object) -> None:
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
    assert "data.decode=always" in caught.value.fix


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


def test_more_than_eight_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 25700, 65535]], dtype=np.uint16).repeat(4, 0)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.array([[0.0, 0.2, 0.5, 1.0]], dtype=np.float32).repeat(4, 0)).save(tmp_path / "float.tif")
    assert image_files.decode_image(tmp_path / "grey.png", 4)[0, 0].tolist() == [0, 1, 100, 255]
    assert image_files.decode_image(tmp_path / "float.tif", 4)[:, 2].tolist() == [[0, 51, 128, 255]] * 3


@pytest.mark.parametrize("values", [[0.0, 255.0], [-0.5, 1.0], [0.0, float("nan")]])
def test_floats_that_are_no_brightness_are_refused(tmp_path: Path, values: list[float]) -> None:
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "odd.tif")
    with pytest.raises(DataError, match=r"odd\.tif holds values from"):
        image_files.decode_image(tmp_path / "odd.tif", 8)


@pytest.mark.parametrize("ending", ["tif", "png", "webp"])
def test_several_pages_are_not_read_as_their_first(ending: str, tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), (level, level, level)) for level in (0, 255)]
    pages[0].save(tmp_path / f"stack.{ending}", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="2 pages"):
        image_files.decode_image(tmp_path / f"stack.{ending}", 8)


def test_a_photograph_stands_upright_and_what_is_transparent_is_white(tmp_path: Path) -> None:
    lying = Image.new("RGB", (8, 8), "black")
    lying.paste("red", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    lying.save(tmp_path / "phone.png", exif=exif)
    red = image_files.decode_image(tmp_path / "phone.png", 8)[0]
    assert (red[:, 5:] == 255).all()
    assert (red[:, :3] == 0).all()
    Image.new("RGBA", (8, 8), (0, 0, 200, 51)).save(tmp_path / "glass.png")
    # A fifth of the blue over four fifths of white.
    assert image_files.decode_image(tmp_path / "glass.png", 8)[:, 0, 0].tolist() == [204, 204, 244]


def test_what_is_hidden_is_passed_over_and_other_formats_are_counted(pictures: Path) -> None:
    before = plan_data(section_of(pictures))
    cat = pictures / "train" / "cat"
    (cat / "._image 0.png").write_bytes(b"a Mac's own")
    (cat / ".ipynb_checkpoints").mkdir()
    shutil.copy(cat / "image 0.png", cat / ".ipynb_checkpoints" / "image 0-checkpoint.png")
    for name in ("a.heic", "b.HEIC", "c.gif", "notes.txt"):
        (cat / name).write_bytes(b"")
    plan = plan_data(section_of(pictures))
    assert (before.notes, plan.counts) == ((), before.counts)
    assert [note.rpartition(": ")[2] for note in plan.notes] == ["1 .gif, 2 .heic"]


@pytest.mark.parametrize(
    ("arrange", "words"),
    [
        (lambda cat: (cat / "round").symlink_to(cat.parent), "round is a link"),
        (lambda cat: (cat / "again").symlink_to(cat), "again is a link"),
        (lambda cat: os.mkfifo(cat / "pipe.png"), "pipe.png is no file"),
    ],
)
def test_links_that_lead_back_and_pipes_are_refused(
    pictures: Path, arrange: Callable[[Path], None], words: str
) -> None:
    arrange(pictures / "train" / "cat")
    with pytest.raises(DataError, match=words):
        plan_data(section_of(pictures))


def test_one_class_is_refused_and_a_folder_too_many_is_named(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            write_images(tmp_path / "deep" / part / "images" / name, 2, 1)
        write_images(tmp_path / "one" / part / "cat", 2, 1)
    with pytest.raises(DataError, match=r"images is the only class, and holds folders itself \(cat, dog\)"):
        plan_data(section_of(tmp_path / "deep"))
    with pytest.raises(DataError, match="cat is the only class"):
        plan_data(section_of(tmp_path / "one"))
