"""Images that stay in their files: what is shown of them, by whom it is decoded, and what becomes of damaged ones."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_photographs import photograph, write_photographs
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from idsnn_cli.data import TrainBatches, calibration_batches, drawn_batches, eval_batches, load_data, plan_data
from idsnn_cli.data.decoding import View, as_bytes, decode
from idsnn_cli.data.nvjpeg import Encoded, GpuDecoding
from idsnn_cli.data.source import Crop, FileImages
from idsnn_cli.data.streamed import Reading, Request, StreamedImages, _settle_worker
from idsnn_cli.errors import DataError, IdsnnError
from idsnn_cli.recipe import recipe_from_mapping
from idsnn_cli.recipe.schema import Augment, Data
from idsnn_cli.seeding import derive_seed

SIZE, SHORT = 24, 32
DRAWN = {"scale": [0.2, 1.0], "flip": True}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder / "train", count=20, classes=3, seed=0, least=30, most=(70, 60))
    write_photographs(folder / "val", count=7, classes=3, seed=1, least=30, most=(70, 60))
    return folder


def section_of(path: Path, **keys: Any) -> Data:
    return Data.model_validate(
        {"dataset": "folder", "path": path, "image_size": SIZE, "resize": SHORT, "decode": "always", **keys}
    )


def batches_of(path: Path, rank: int = 0, world: int = 1, size: int = 6, **keys: Any) -> TrainBatches:
    section = section_of(path, augment=DRAWN, **keys)
    split = load_data(section, seed=0).train
    fill = (0.0, 0.0, 0.0)
    return TrainBatches(
        split, batch_size=size, augment=section.augment, seed=5, device="cpu", fill=fill, rank=rank, world=world
    )


def pil_levels(path: str | Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image).transpose(2, 0, 1))


def test_what_is_measured_is_torchvision_s_evaluation_and_within_a_level_of_decoding_once(photographs: Path) -> None:
    streamed, kept = (load_data(section_of(photographs, decode=each), seed=0) for each in ("always", "once"))
    assert isinstance(streamed.test.stored, FileImages)
    assert isinstance(kept.test.stored, Tensor)
    assert (streamed.classes, streamed.image_size, streamed.channels) == (kept.classes, (SIZE, SIZE), 3)
    theirs = v2.Compose([v2.Resize(SHORT), v2.CenterCrop(SIZE)])
    for name in ("train", "test"):
        ours, once = getattr(streamed, name), getattr(kept, name)
        assert torch.equal(ours.labels, once.labels)
        assert (ours.images.int() - once.images.int()).abs().max() <= 1
        folder = ImageFolder(str(photographs / {"train": "train", "test": "val"}[name]))
        peers = [theirs(pil_levels(path)) for path, _ in folder.samples]
        assert torch.equal(ours.images, torch.stack(peers))


def test_a_training_crop_is_torchvision_s_random_resized_crop(photographs: Path) -> None:
    split = load_data(section_of(photographs), seed=0).train
    crop = Crop(77, (0.1, 0.6), (0.5, 2.0))
    rows = torch.tensor([3, 11, 0])
    ((images, labels),) = split.gather([rows], "cpu", crop)
    assert labels.tolist() == split.labels[rows].tolist()
    theirs = v2.RandomResizedCrop(SIZE, crop.scale, crop.ratio, antialias=True)
    files = [path for path, _ in ImageFolder(str(photographs / "train")).samples]
    for image, row in zip(images, rows.tolist(), strict=True):
        torch.manual_seed(derive_seed(crop.seed, row))
        assert torch.equal(image, theirs(pil_levels(files[row])))


@pytest.mark.slow
def test_neither_workers_nor_processes_nor_a_start_in_the_middle_change_a_batch(photographs: Path) -> None:
    alone = list(batches_of(photographs, workers=0).epoch(3))
    assert [len(each.labels) for each in alone] == [6, 6, 6, 2]
    for workers in (1, 3):
        for start in (0, 2):
            other = list(batches_of(photographs, workers=workers).epoch(3, start))
            assert [each.index for each in other] == list(range(start, 4))
            for ours, theirs in zip(other, alone[start:], strict=True):
                assert torch.equal(ours.images, theirs.images)
                assert torch.equal(ours.labels, theirs.labels)
    shares = [list(batches_of(photographs, rank, 3, workers=rank).epoch(3)) for rank in range(3)]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat([each.images for each in parts]), whole.images)
    assert not torch.equal(alone[0].images, next(batches_of(photographs, workers=0).epoch(4)).images)


def test_an_image_is_cut_alike_in_batches_of_any_size(photographs: Path) -> None:
    flat = {"scale": [0.2, 1.0], "flip": False}
    found = []
    for size in (4, 9):
        batches = batches_of(photographs, size=size, workers=0)
        batches.augment = Augment.model_validate(flat)
        found.append(torch.cat([each.images for each in batches.epoch(0)]))
    assert torch.equal(*found)


def test_reading_takes_nothing_from_torch_s_own_numbers(photographs: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(batches_of(photographs, workers=0).epoch(0))
    list(batches_of(photographs, workers=2).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_way_of_reading_gives_the_same_images(photographs: Path) -> None:
    split = load_data(section_of(photographs, workers=2), seed=0).train
    images = split.images.float() / 255
    assert torch.equal(split.first(5), split.images[:5])
    assert torch.equal(torch.cat([each for each, _ in eval_batches(split, 8, "cpu")]), images)
    shares = [each for rank in range(2) for each, _ in eval_batches(split, 4, "cpu", rank, 2)]
    assert torch.equal(torch.cat(shares), images)
    held = load_data(section_of(photographs), seed=0).train
    kept = type(held)(held.images, held.labels)
    for ours, theirs in zip(
        calibration_batches(split, 7, 5, 1, "cpu"), calibration_batches(kept, 7, 5, 1, "cpu"), strict=True
    ):
        assert torch.equal(ours, theirs)
    for (ours, labels), (theirs, others) in zip(
        drawn_batches(split, 11, 4, 1, "cpu"), drawn_batches(kept, 11, 4, 1, "cpu"), strict=True
    ):
        assert torch.equal(ours, theirs)
        assert torch.equal(labels, others)


def test_the_plan_and_the_normalisation_are_those_of_decoding_once(photographs: Path) -> None:
    said: list[str] = []
    streamed = load_data(section_of(photographs), seed=0, say=said.append)
    kept = load_data(section_of(photographs, decode="once"), seed=0)
    assert "27 images stay in their files" in said[0]
    assert streamed.mean == pytest.approx(kept.mean, abs=0.5 / 255)
    assert streamed.std == pytest.approx(kept.std, abs=0.5 / 255)
    plan = plan_data(section_of(photographs))
    assert (plan.image_bytes, dict(plan.counts)) == (0, {"train": 20, "test": 7})
    assert [path.name for path in plan.files] == ["train", "val"]


def test_the_fingerprint_names_the_files_and_the_geometry(photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "copy")
    first = load_data(section_of(photographs), seed=0).fingerprint
    copied = tmp_path / "copy"
    assert load_data(section_of(copied), seed=0).fingerprint == first
    assert load_data(section_of(copied, workers=1), seed=0).fingerprint == first
    assert load_data(section_of(copied, resize=40), seed=0).fingerprint != first
    (copied / "train" / "class0" / "00000.jpg").rename(copied / "train" / "class0" / "00001.jpg")
    renamed = load_data(section_of(copied), seed=0).fingerprint
    assert renamed != first
    with (copied / "train" / "class0" / "00003.jpg").open("ab") as file:
        file.write(b"more")
    assert load_data(section_of(copied), seed=0).fingerprint not in (first, renamed)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [0, 40, 900, -30])
def test_a_damaged_jpeg_is_named_as_it_is_when_decoded_once(
    photographs: Path, tmp_path: Path, workers: int, kept: int
) -> None:
    shutil.copytree(photographs, tmp_path / "copy")
    path = tmp_path / "copy" / "train" / "class1" / "00013.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"00013\.jpg cannot be read") as once:
        load_data(section_of(tmp_path / "copy", decode="once"), seed=0)
    split = load_data(section_of(tmp_path / "copy", workers=workers, normalise="imagenet"), seed=0).train
    with pytest.raises(DataError, match=r"00013\.jpg cannot be read") as always:
        list(eval_batches(split, 5, "cpu"))
    assert always.value.fix == once.value.fix
    path.unlink()
    with pytest.raises(DataError, match=r"00013\.jpg cannot be read: .*No such file"):
        list(eval_batches(split, 5, "cpu"))


def odd_images() -> dict[str, bytes]:
    """Images that no plain JPEG decoder shows as they are meant."""
    generator = np.random.default_rng(0)
    image = photograph(1, generator, 40, (60, 50))
    exif = Image.Exif()
    exif[0x0112] = 6
    glass = image.convert("RGBA")
    glass.putalpha(90)
    wanted: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "grey.jpg": (image.convert("L"), {}),
        "turned.jpg": (image, {"exif": exif}),
        "print.jpg": (image.convert("CMYK"), {}),
        "glass.png": (glass, {}),
        "steps.jpg": (image, {"progressive": True}),
    }
    found = {}
    for name, (each, words) in wanted.items():
        buffer = io.BytesIO()
        each.save(buffer, "PNG" if name.endswith("png") else "JPEG", **words)
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("name", odd_images())
def test_odd_images_are_shown_as_they_are_when_decoded_once(name: str, tmp_path: Path) -> None:
    from idsnn_cli.data.image_files import read_colours

    path = tmp_path / name
    path.write_bytes(odd_images()[name])
    expected = np.asarray(read_colours(path, path)).transpose(2, 0, 1)
    assert np.array_equal(decode(path.read_bytes(), path).numpy(), expected)


def test_grey_is_shown_in_one_channel(photographs: Path) -> None:
    colours, grey = (load_data(section_of(photographs, **keys), seed=0).test for keys in ({}, {"channels": 1}))
    mean = colours.images.float().mean(1, keepdim=True)
    assert grey.images.shape[1] == 1
    assert (grey.images - mean).abs().max() <= 0.5


class FilesInMemory:
    """As much of a store as reading needs."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.names, self.contents = list(contents), list(contents.values())

    def name(self, row: int) -> str:
        return self.names[row]

    def read(self, row: int) -> bytes:
        return self.contents[row]


def cpu_decoder(encoded: list[Tensor], device: torch.device) -> list[Tensor]:
    """What nvJPEG would be given, decoded here."""
    assert all(each.dim() == 1 for each in encoded)
    return [decode(each.numpy().tobytes(), "one") for each in encoded]


def broken_decoder(encoded: list[Tensor], device: torch.device) -> list[Tensor]:
    raise RuntimeError("built without nvJPEG\nand more lines")


def test_a_gpu_is_given_plain_jpegs_and_what_it_cannot_do_the_cpu_does() -> None:
    plain = io.BytesIO()
    photograph(2, np.random.default_rng(1), 40, (60, 50)).save(plain, "JPEG")
    store: Any = FilesInMemory({"plain.jpg": plain.getvalue(), **odd_images()})
    view, crop = View(16, 20, 3), Crop(4, (0.3, 1.0), (0.75, 1.3))
    request = Request(tuple(range(6)), crop)
    expected = Reading(store, view, encoded=False)[request]
    assert isinstance(expected, Tensor)
    batch = Reading(store, view, encoded=True)[request]
    assert isinstance(batch, Encoded)
    # In order: plain, grey; turned, print and glass are decoded already; progressive.
    assert [each.dim() for each in batch.parts] == [1, 1, 3, 3, 3, 1]
    assert torch.equal(batch.parts[0], as_bytes(plain.getvalue()))
    cpu = torch.device("cpu")
    assert torch.equal(GpuDecoding(cpu, view, None, cpu_decoder)(batch, crop), expected)
    said: list[str] = []
    failing = GpuDecoding(cpu, view, said.append, broken_decoder)
    for _ in range(2):
        assert torch.equal(failing(batch, crop), expected)
    assert said == ["nvJPEG does not decode a batch, so the CPU does: built without nvJPEG"]
    broken = Encoded((0,), ("plain.jpg",), (as_bytes(plain.getvalue()[:200]),))
    with pytest.raises(DataError, match=r"plain\.jpg cannot be read"):
        failing(broken, crop)


def test_without_a_gpu_nvjpeg_is_the_cpu(photographs: Path) -> None:
    ours, theirs = (load_data(section_of(photographs, nvjpeg=each), seed=0) for each in (True, False))
    assert torch.equal(ours.test.images, theirs.test.images)
    assert ours.fingerprint != theirs.fingerprint


def test_a_worker_that_is_lost_is_told_with_what_to_do(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = load_data(section_of(photographs, workers=2, normalise="imagenet"), seed=0).train
    assert isinstance(split.stored, StreamedImages)

    def dies(row: int) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(split.stored.store, "read", dies)
    with pytest.raises(DataError, match="one of 2 processes that decode images was lost") as caught:
        list(eval_batches(split, 5, "cpu"))
    assert "shm-size" in str(caught.value.fix)


def rest() -> None:
    _settle_worker(0)
    time.sleep(60)


def test_a_worker_ends_when_its_own_process_says_so_and_not_by_a_signal_to_all() -> None:
    worker = multiprocessing.get_context("fork").Process(target=rest)
    worker.start()
    time.sleep(0.2)
    for number in ("INT", "TERM"):
        subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)
    worker.join(0.3)
    assert worker.exitcode is None
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"dataset": "digits", "decode": "always"}, "data.decode is for the folder and webdataset data sets"),
        ({"dataset": "digits", "workers": 2}, "data.workers is for"),
        ({"dataset": "digits", "augment": {"scale": [0.1, 1]}}, "data.augment.scale is for"),
        ({"path": "x", "resize": 40}, "the short side from which data.image_size is cut"),
        ({"path": "x", "image_size": 64, "resize": 40}, "it the larger"),
        ({"path": "x", "decode": "once", "augment": {"scale": [0.1, 1]}}, "data.decode is once"),
        ({"path": "x", "nvjpeg": True}, "set data.decode=always"),
        ({"path": "x", "augment": {"scale": [1, 0.1]}}, "give the smaller one first"),
        ({"path": "x", "augment": {"ratio": [0.5, 2]}}, "scale is not given"),
        ({"path": "x", "augment": {"scale": [0.1, 1], "crop": 4}}, "use crop 0"),
        ({"path": "x", "window": 4}, "data.window is for the webdataset data set"),
        ({"path": "x", "shards": {"train": "a.tar"}}, "data.shards is for"),
        ({"dataset": "webdataset"}, "needs data.shards.train and data.shards.test"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(IdsnnError, match=words):
        recipe_from_mapping({"data": {"dataset": "folder", **keys}}, origin="a test")


def test_a_portable_recipe_keeps_the_crop_and_leaves_the_machine_out() -> None:
    plain = {"data": {"dataset": "folder", "path": "x", "workers": 3, "augment": {"scale": [0.1, 1]}}}
    recipe = recipe_from_mapping(plain, origin="a test")
    assert (recipe.data.augment.crop, recipe.data.decodes_always) == (0, True)
    portable = recipe.portable()
    assert not {"workers", "path", "shards"} & portable["data"].keys()
    again = recipe_from_mapping(portable, ["data.path=x"], origin="a test")
    assert again.data.augment == recipe.data.augment
