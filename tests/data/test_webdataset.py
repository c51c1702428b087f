"""Images in tar files: what webdataset itself reads from them, in orders that no number of processes changes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from made_photographs import photograph

from idsnn_cli import extras
from idsnn_cli.data import TrainBatches, load_data, plan_data, tar_shards
from idsnn_cli.data.decoding import View
from idsnn_cli.data.streamed import StreamedImages
from idsnn_cli.data.tar_shards import ShardIndex, ShardStore
from idsnn_cli.errors import DataError, MissingPackageError
from idsnn_cli.recipe.schema import Data


def write_shards(folder: Path, part: str, count: int, per_shard: int, seed: int) -> str:
    """Shards as webdataset's own writer makes them; their pattern."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    shards = -(-count // per_shard)
    with webdataset.ShardWriter(str(folder / f"{part}-%03d.tar"), maxcount=per_shard, verbose=0) as sink:
        for number in range(count):
            image = photograph(number % 3, generator, 30, (60, 50))
            sample = {"__key__": f"{part}{number:04}", "jpg": image, "cls": number % 3}
            sink.write(sample | ({"json": {"number": number}} if number % 2 else {}))
    return str(folder / f"{part}-{{000..{shards - 1:03}}}.tar")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("shards")
    return {
        "train": write_shards(folder, "train", 23, 5, 0),
        "test": "::".join([write_shards(folder, "test", 4, 9, 1), write_shards(folder, "more", 3, 9, 2)]),
    }


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def section_of(shards: dict[str, str], **keys: Any) -> Data:
    plain = {"dataset": "webdataset", "shards": shards, "image_size": 16, "resize": 20, "workers": 0, **keys}
    return Data.model_validate(plain)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_samples_are_those_that_webdataset_reads(shards: dict[str, str]) -> None:
    bundle = load_data(section_of(shards), seed=0)
    assert bundle.classes == ("0", "1", "2")
    for split, pattern in ((bundle.train, shards["train"]), (bundle.test, shards["test"])):
        theirs = list(webdataset.WebDataset(pattern, shardshuffle=False))
        assert split.labels.tolist() == [int(each["cls"]) for each in theirs]
        assert isinstance(split.stored, StreamedImages)
        store = split.stored.store
        assert [store.read(row) for row in range(len(split))] == [each["jpg"] for each in theirs]
        assert [store.name(row).rpartition(": ")[2] for row in range(len(split))] == [e["__key__"] for e in theirs]


def test_the_plan_counts_them_and_classes_may_have_names(shards: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nemu\nfox\n")
    plan = plan_data(section_of(shards | {"classes": str(tmp_path / "names.txt")}, validation=3))
    assert dict(plan.counts) == {"train": 20, "validation": 3, "test": 7}
    assert (plan.classes, plan.image_bytes, plan.image_size) == (("cat", "dog", "emu", "fox"), 0, (16, 16))
    assert len(plan.files) == 5 + 2
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"class 2, and the data\.shards\.classes names 2"):
        plan_data(section_of(shards | {"classes": str(tmp_path / "names.txt")}))


def test_an_index_is_made_once_and_anew_where_it_is_damaged_or_a_shard_changed(
    shards: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_data(section_of(shards), seed=0)
    cached = sorted((tmp_path / "cache").rglob("*.npz"))
    assert len(cached) == 2
    looked: list[Path] = []
    real = tar_shards._look_through

    def look(path: Path) -> Any:
        looked.append(path)
        return real(path)

    monkeypatch.setattr(tar_shards, "_look_through", look)
    assert load_data(section_of(shards), seed=0).fingerprint == first.fingerprint
    assert looked == []
    for path in cached:
        path.write_bytes(path.read_bytes()[:-30])
    again = load_data(section_of(shards), seed=0)
    assert len(looked) == 7
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.train.images, first.train.images)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 14), st.integers(0, 99), st.data())
def test_an_epoch_mixes_windows_of_whole_shards(sizes: list[int], window: int, seed: int, data: st.DataObject) -> None:
    shard = np.repeat(np.arange(len(sizes)), sizes)
    zeros = np.zeros(len(shard), dtype=np.int64)
    index = ShardIndex(tuple(Path(f"{n}.tar") for n in range(len(sizes))), shard, zeros, zeros, zeros, zeros)
    store = ShardStore(index, window)
    chosen = data.draw(st.lists(st.integers(0, len(shard) - 1), min_size=1, unique=True))
    rows = torch.tensor(sorted(chosen))
    order = store.order(rows, seed)
    assert sorted(order.tolist()) == list(range(len(rows)))
    # Each window's shards are read to their end before one of the next window is.
    seen = shard[rows[order].numpy()].tolist()
    came = list(dict.fromkeys(shard[rows.numpy()].tolist()))
    counts = {each: seen.count(each) for each in came}
    while seen:
        part, held = set(seen[:1]), 0
        while held < len(seen) and len(part | {seen[held]}) <= window:
            part.add(seen[held])
            held += 1
        assert held == sum(counts[each] for each in part)
        seen = seen[held:]
    assert torch.equal(order, store.order(rows, seed))


def test_batches_are_the_same_for_any_number_of_workers_and_processes(shards: dict[str, str]) -> None:
    def batches(workers: int, rank: int = 0, world: int = 1) -> list[Any]:
        section = section_of(shards, workers=workers, window=2, augment={"scale": [0.3, 1], "flip": True})
        return list(
            TrainBatches(
                load_data(section, seed=0).train,
                batch_size=8,
                augment=section.augment,
                seed=4,
                device="cpu",
                fill=(0.0,),
                rank=rank,
                world=world,
            ).epoch(1)
        )

    alone = batches(0)
    for others in (batches(2), [list(each) for each in zip(batches(2, 0, 2), batches(0, 1, 2), strict=True)]):
        for whole, other in zip(alone, others, strict=True):
            parts = other if isinstance(other, list) else [other]
            assert torch.equal(torch.cat([each.images for each in parts]), whole.images)
            assert torch.equal(torch.cat([each.labels for each in parts]), whole.labels)


def test_an_image_s_fingerprint_is_in_its_shard(shards: dict[str, str]) -> None:
    bundle = load_data(section_of(shards), seed=0)
    assert load_data(section_of(shards, workers=3), seed=0).fingerprint == bundle.fingerprint
    assert load_data(section_of(shards, window=3), seed=0).fingerprint == bundle.fingerprint
    assert load_data(section_of(shards, resize=18), seed=0).fingerprint != bundle.fingerprint


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.jpg": b"x"}, "a has no class"),
        ({"a.cls": b"0"}, "a holds 0 images"),
        ({"a.jpg": b"x", "a.png": b"x", "a.cls": b"0"}, r"a holds 2 images \(cls, jpg, png\)"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, "the class of a is b'cat'"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, "the class of a is b'-1'"),
        ({"notes": b"x"}, "holds no images"),
        ({"a.jpg": b"x", "a.cls": b"0"}, "hold one class"),
    ],
)
def test_what_is_no_sample_is_named(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            add(tar, name, content)
    with pytest.raises(DataError, match=words):
        plan_data(section_of({"train": str(path), "test": str(path)}))


@pytest.mark.parametrize("keep", [0.3, 0.62, "members"])
def test_a_shard_that_was_cut_short_is_refused(shards: dict[str, str], tmp_path: Path, keep: float | str) -> None:
    whole = Path(shards["train"].replace("{000..004}", "000"))
    content = whole.read_bytes()
    with tarfile.open(whole) as tar:
        third = tar.getmembers()[4]
    cut = third.offset if keep == "members" else int(len(content) * float(keep))
    path = tmp_path / "cut.tar"
    path.write_bytes(content[:cut])
    with pytest.raises(DataError, match=r"cut\.tar cannot be read as an uncompressed tar file"):
        plan_data(section_of({"train": str(path), "test": shards["test"]}))


def test_other_files_and_addresses_are_refused(shards: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as tar:
        add(tar, "a.cls", b"0")
    for pattern, words in (
        (str(tmp_path / "small.tar.gz"), "uncompressed tar file"),
        (str(tmp_path / "none-{0..9}.tar"), r"10 of the 10 shards .* are not there: .*none-0\.tar"),
        ("pipe:curl -s http://a/b.tar", "is no file"),
        ("https://host/train-{0..1}.tar", "is no file"),
    ):
        with pytest.raises(DataError, match=words):
            plan_data(section_of({"train": pattern, "test": shards["test"]}))


def test_a_damaged_image_is_named_with_its_shard(shards: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "broken.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a", "b"):
            add(tar, f"{name}.jpg", b"\xff\xd8 no image")
            add(tar, f"{name}.cls", str("ab".index(name)).encode())
    section = section_of({"train": str(path), "test": str(path)}, normalise="imagenet")
    with pytest.raises(DataError, match=r"broken\.tar: a cannot be read as an image"):
        _ = load_data(section, seed=0).train.images


def test_without_webdataset_the_message_names_the_command(
    shards: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as caught:
        plan_data(section_of(shards))
    assert caught.value.fix == "Install it with: pip install 'idsnn-cli[webdataset]'"


def test_the_view_of_grey_shards_has_one_channel(shards: dict[str, str]) -> None:
    split = load_data(section_of(shards, channels=1), seed=0).test
    assert isinstance(split.stored, StreamedImages)
    assert split.stored.view == View(16, 20, 1)
    assert split.images.shape == (7, 1, 16, 16)
