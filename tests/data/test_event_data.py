"""Event data: files to frames that are worked out by hand, folders, memory maps, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_recordings import Event, write_aedat, write_aedat4, write_bars, write_bin, write_npz

from idsnn_cli.data import load_data, plan_data
from idsnn_cli.data.events import maps, recordings
from idsnn_cli.data.events.frames import Binning, bin_events
from idsnn_cli.data.events.recordings import Recording, read_recording
from idsnn_cli.errors import DataError, MissingPackageError
from idsnn_cli.recipe.schema import Data

# x, y, t, p: five events of a sensor of 2x3 (height, width).
FIVE: list[Event] = [(0, 0, 10, 1), (2, 1, 11, 0), (2, 1, 12, 0), (1, 0, 19, 1), (0, 1, 29, 0)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "idsnn" / "events"


def recording(events: list[Event]) -> Recording:
    return Recording(*np.array(events, dtype=np.int64).T)


def nmnist(root: Path, train: int = 2, test: int = 1) -> Path:
    for part, count in (("Train", train), ("Test", test)):
        for digit in range(10):
            for number in range(count):
                events = [(digit, number, 5 * i, i % 2) for i in range(8)]
                write_bin(root / "NMNIST" / part / str(digit) / f"{number:05}.bin", events)
    return root


def section(dataset: str = "nmnist", **keys: Any) -> Data:
    return Data.model_validate({"dataset": dataset, "frames": 2, **keys})


# Frames


def test_frames_of_as_many_events_by_hand() -> None:
    frames, lost = bin_events(recording(FIVE), Binning(2, (2, 3), 1, "count"))
    # Events 0, 1, 2 are in the first frame (floor(2i / 5) = 0), 3 and 4 in the second.
    wanted = np.zeros((2, 2, 2, 3), np.uint8)
    wanted[0, 1, 0, 0] = 1
    wanted[0, 0, 1, 2] = 2
    wanted[1, 1, 0, 1] = 1
    wanted[1, 0, 1, 0] = 1
    assert (frames.dtype, lost) == (np.uint8, 0)
    assert np.array_equal(frames, wanted)


def test_frames_of_as_much_time_by_hand() -> None:
    frames, _ = bin_events(recording(FIVE), Binning(2, (2, 3), 1, "time"))
    # 20 microseconds from 10 to 29: the first frame goes to 19, and has the event at 19.
    assert frames.sum((1, 2, 3)).tolist() == [4, 1]
    assert frames[0, 1].tolist() == [[1, 1, 0], [0, 0, 0]]
    assert frames[1, 0].tolist() == [[0, 0, 0], [1, 0, 0]]


def test_pixels_are_put_together_and_full_ones_are_told() -> None:
    events = [(x, y, t, 1) for t, (x, y) in enumerate((x, y) for x in range(4) for y in range(4))]
    frames, lost = bin_events(recording(events), Binning(1, (4, 4), 2, "count"))
    assert frames[0].tolist() == [[[0, 0], [0, 0]], [[4, 4], [4, 4]]]
    frames, lost = bin_events(recording([(0, 0, t, 0) for t in range(300)]), Binning(1, (1, 1), 1, "time"))
    assert (int(frames[0, 0, 0, 0]), lost) == (255, 45)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    times=st.lists(st.integers(0, 400), min_size=1, max_size=80),
    frames=st.integers(1, 9),
    slicing=st.sampled_from(["count", "time"]),
)
def test_every_event_is_in_one_frame(times: list[int], frames: int, slicing: Any) -> None:
    events = [(t % 3, t % 2, t, t % 2) for t in sorted(times)]
    found, lost = bin_events(recording(events), Binning(frames, (2, 3), 1, slicing))
    assert int(found.sum()) + lost == len(times)
    for x, y, _, p in events:
        assert found[:, p, y, x].sum() > 0
    if slicing == "count":
        assert int(np.ptp(found.sum((1, 2, 3)))) <= 1


def test_frames_are_tonics_where_it_leaves_no_event_out() -> None:
    to_frame = pytest.importorskip("tonic.functional").to_frame_numpy
    draws = np.random.default_rng(3)
    times = np.sort(np.concatenate([[0, 120], draws.integers(0, 120, 238)]))
    times[-1] = 119  # tonic's windows of 30 end before 120
    events = np.zeros(240, dtype=[("x", int), ("y", int), ("t", int), ("p", int)])
    events["t"] = times
    for name, size in (("x", 5), ("y", 4), ("p", 2)):
        events[name] = draws.integers(0, size, 240)
    own = Recording(events["x"], events["y"], events["t"], events["p"])
    theirs = to_frame(events, sensor_size=(5, 4, 2), n_event_bins=4)
    assert np.array_equal(bin_events(own, Binning(4, (4, 5), 1, "count"))[0], theirs)
    # As tonic counts time to the last event, which its last window leaves out, one event more is put behind.
    longer = np.concatenate([events, events[-1:]])
    longer["t"][-1] = 120
    theirs = to_frame(longer, sensor_size=(5, 4, 2), n_time_bins=4)
    assert np.array_equal(bin_events(own, Binning(4, (4, 5), 1, "time"))[0], theirs)


# Files


def test_formats_hold_the_same_events(tmp_path: Path) -> None:
    x, y, t, p = np.array(FIVE).T
    structured = np.zeros(5, dtype=[("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "?")])
    for name, values in (("x", x), ("y", y), ("t", t), ("p", p)):
        structured[name] = values
    np.save(tmp_path / "a.npy", structured)
    np.save(tmp_path / "b.npy", np.stack([x, y, p, t], 1).astype(np.int16))
    np.savez(tmp_path / "c.npz", x=x, y=y, t=t, p=2 * p - 1)
    files = [write_bin(tmp_path / "d.bin", FIVE), *(tmp_path / name for name in ("a.npy", "b.npy", "c.npz"))]
    for file in files:
        found = read_recording(file, (2, 3))
        assert np.stack([found.x, found.y, found.t, found.p], 1).tolist() == [list(event) for event in FIVE], file


def test_an_aedat_file_is_turned_as_spikingjelly_turns_it(tmp_path: Path) -> None:
    # Bits 1 to 7 and 8 to 14 are the two coordinates, bit 0 says that it grew darker.
    path = write_aedat(tmp_path / "a.aedat", [5 << 8 | 9 << 1 | 1, 127 << 8 | 0 << 1 | 0], [70000, 70009])
    found = read_recording(path, (128, 128))
    assert (found.x.tolist(), found.y.tolist()) == ([122, 0], [118, 127])
    assert (found.t.tolist(), found.p.tolist()) == ([70000, 70009], [0, 1])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cut off"):
        read_recording(path, (128, 128))


def test_an_aedat4_file_is_read_and_a_broken_one_refused(tmp_path: Path) -> None:
    pytest.importorskip("aedat")
    pytest.importorskip("flatbuffers")
    path = write_aedat4(tmp_path / "a.aedat4", FIVE)
    found = read_recording(path, (2, 3))
    assert np.stack([found.x, found.y, found.t, found.p], 1).tolist() == [list(event) for event in FIVE]
    whole = path.read_bytes()
    for broken in (whole[:-9], whole[:40], b"#!AER-DAT4.0\r\n"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="cannot be read as events"):
            read_recording(path, (2, 3))


def test_events_are_put_in_the_order_of_time(tmp_path: Path) -> None:
    found = read_recording(write_npz(tmp_path / "a.npz", FIVE[::-1]), (2, 3))
    assert found.t.tolist() == sorted(event[2] for event in FIVE)
    assert found.x.tolist() == [event[0] for event in FIVE]


def test_recordings_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    whole = write_bin(tmp_path / "a.bin", FIVE)
    whole.write_bytes(whole.read_bytes()[:-2])
    with pytest.raises(DataError, match="cut off: 23 bytes"):
        read_recording(whole, (2, 3))
    whole.write_bytes(b"")
    with pytest.raises(DataError, match="no event"):
        read_recording(whole, (2, 3))
    with pytest.raises(DataError, match="outside the sensor of 2x2: x goes from 0 to 2"):
        read_recording(write_bin(whole, FIVE), (2, 2))
    with pytest.raises(DataError, match="outside the sensor of 1x3: y goes from 0 to 1"):
        read_recording(whole, (1, 3))
    odd = {"x": [0], "y": [0], "t": [0], "p": [3]}
    for change, words in (
        ({}, "polarities go from 3 to 3"),
        ({"p": [0.5]}, "p is float64"),
        ({"t": [0, 1], "p": [0]}, "1, 2 values"),
        ({"x": [[0]], "p": [1]}, r"of shape \(1, 1\)"),
        ({"x": np.array([{}]), "p": [1]}, "cannot be read as events"),
    ):
        np.savez(tmp_path / "b.npz", **(odd | change))
        with pytest.raises(DataError, match=words):
            read_recording(tmp_path / "b.npz", (2, 3))
    np.savez(tmp_path / "b.npz", x=[0], y=[0], t=[0])
    with pytest.raises(DataError, match="lacks p"):
        read_recording(tmp_path / "b.npz", (2, 3))
    np.save(tmp_path / "c.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match="neither"):
        read_recording(tmp_path / "c.npy", (2, 3))
    (tmp_path / "d.aedat").write_bytes(b"no header")
    with pytest.raises(DataError, match="cannot be read as events"):
        read_recording(tmp_path / "d.aedat", (128, 128))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"\.bin files are read by tonic") as caught:
        plan_data(section(root=nmnist(tmp_path)))
    assert caught.value.fix == "Install it with: pip install 'idsnn-cli[events]'"
    read_recording(write_npz(tmp_path / "a.npz", FIVE), (2, 3))  # numpy alone does


# Sets


def test_nmnist_is_found_planned_and_read(tmp_path: Path) -> None:
    said: list[str] = []
    asked = section(root=nmnist(tmp_path), frames=4, image_size=17)
    plan, bundle = plan_data(asked), load_data(asked, seed=0, say=said.append)
    assert (plan.frames, plan.channels, plan.image_size, plan.num_classes) == (4, 2, (17, 17), 10)
    assert plan.counts == {"train": 20, "test": 10}
    assert plan.image_bytes == bundle.train.images.nbytes + bundle.test.images.nbytes
    assert bundle.train.images.shape == (20, 4, 2, 17, 17)
    assert (bundle.frames, bundle.channels, bundle.image_size, bundle.classes[9]) == (4, 2, (17, 17), "9")
    assert bundle.train.labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    # Two events of each frame, one of each polarity, at the digit's column, which 34 pixels of the sensor share by two.
    assert torch.equal(bundle.train.images.sum((2, 3, 4)), torch.full((20, 4), 2))
    assert int(bundle.train.images[19, 0, 1, 0, 4]) == 1
    assert bundle.mean == (0.0, 0.0)
    rms = float((bundle.train.images.double() / 255).square().mean().sqrt())
    assert bundle.std == pytest.approx((rms, rms))
    assert [line.startswith("binning 20 recordings to 4 frames") for line in said] == [True, False]


def test_the_last_tenth_of_each_class_of_cifar10_dvs_is_its_test_part(tmp_path: Path) -> None:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    for label, name in enumerate(names):
        for number in range(11):
            address = (127 - label) << 8 | (127 - number) << 1
            write_aedat(tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat", [address] * 3, [1, 2, 3])
    bundle = load_data(section("cifar10dvs", root=tmp_path), seed=0)
    assert bundle.classes == names
    assert (len(bundle.train), len(bundle.test)) == (90, 20)
    # x is the label, y the number: those of 9 and 10 are kept for the test, though their names sort before 2.
    assert bundle.test.images.sum((1, 2, 4)).nonzero()[:, 1].tolist() == [9, 10] * 10
    assert bundle.test.images.sum((1, 2, 3)).nonzero()[:, 1].tolist() == bundle.test.labels.tolist()


@pytest.mark.parametrize("kept_by", ["tonic", "spikingjelly"])
def test_dvs_gesture_in_both_usual_folders(tmp_path: Path, kept_by: str) -> None:
    for part, users in (("train", (1, 2)), ("test", (24,))):
        for user in users:
            for label in range(11):
                events = [(label, user, t, 1) for t in range(4)]
                if kept_by == "tonic":
                    folder = tmp_path / "DVSGesture" / f"ibmGesture{part.title()}" / f"user{user:02}_led"
                    folder.mkdir(parents=True, exist_ok=True)
                    np.save(folder / f"{label}.npy", np.array([(x, y, p, t) for x, y, t, p in events], np.int16))
                else:
                    write_npz(tmp_path / f"DVS128Gesture/events_np/{part}/{label}/user{user}_led_0.npz", events)
    bundle = load_data(section("dvsgesture", root=tmp_path), seed=0)
    assert (len(bundle.train), len(bundle.test), len(bundle.classes)) == (22, 11, 11)
    assert bundle.train.images.sum((1, 2, 3)).nonzero()[:, 1].tolist() == bundle.train.labels.tolist()
    assert sorted(set(bundle.train.images.sum((1, 2, 4)).nonzero()[:, 1].tolist())) == [1, 2]


def test_ones_own_recordings(tmp_path: Path) -> None:
    write_bars(tmp_path, 2, 1)
    write_npz(tmp_path / "val" / "down" / "0.npz", FIVE)
    asked = section("events", path=tmp_path, sensor=[16, 16])
    bundle = load_data(asked, seed=0)
    assert bundle.validation is not None
    assert (bundle.classes, len(bundle.train), len(bundle.validation)) == (("across", "down"), 4, 1)
    assert plan_data(asked).counts == {"train": 4, "validation": 1, "test": 2}


def test_wrong_folders_and_sizes_are_told(tmp_path: Path) -> None:
    def refused(words: str, **keys: Any) -> None:
        with pytest.raises(DataError, match=words):
            plan_data(section(**({"root": tmp_path} | keys)))

    with pytest.raises(DataError, match="how many frames"):
        plan_data(Data(dataset="nmnist", root=tmp_path))
    refused("there is no .*NMNIST with the folders Train and Test")
    refused("there is no .*CIFAR10DVS/airplane", dataset="cifar10dvs")
    refused("there is no .*ibmGestureTrain", dataset="dvsgesture")
    refused("there is no folder .*train", dataset="events", root=None, path=tmp_path, sensor=(16, 16))
    nmnist(tmp_path)
    refused("only put together whole", image_size=20)
    stray = tmp_path / "NMNIST" / "Train" / "ten"
    stray.mkdir()
    refused("ten is a folder of no class")
    stray.rmdir()
    empty = tmp_path / "NMNIST" / "Test" / "7" / "00000.bin"
    empty.write_bytes(b"")
    refused("00000.bin is empty")
    shutil.rmtree(tmp_path / "NMNIST" / "Train" / "3")
    refused("3 holds no recording")
    shutil.rmtree(tmp_path / "NMNIST" / "Test")
    refused("there is no .*Test")
    write_npz(tmp_path / "own" / "train" / "only" / "0.npz", FIVE)
    (tmp_path / "own" / "test").mkdir()
    refused("1 folder of classes", dataset="events", root=None, path=tmp_path / "own", sensor=(16, 16))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"dataset": "digits", "frames": 4}, "data.frames is for"),
        ({"dataset": "digits", "slicing": "time"}, "data.slicing is for"),
        ({"dataset": "digits", "sensor": (4, 4)}, "data.sensor is for"),
        ({"dataset": "digits", "augment": {"eventdrop": True}}, "data.augment.eventdrop is for"),
        ({"channels": 1}, "data.channels is for images"),
        ({"augment": {"autoaugment": "cifar10"}}, "autoaugment is for images"),
        ({"download": True}, "cannot fetch nmnist"),
        ({"sensor": (34, 34)}, "that of nmnist is known"),
        ({"dataset": "events", "path": "x"}, "needs data.sensor"),
    ],
)
def test_keys_that_do_not_go_with_a_set_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Data.model_validate({"dataset": "nmnist", **keys})


# Memory maps


def test_a_map_is_used_again_and_a_damaged_one_made_anew(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, said = section(root=nmnist(tmp_path)), list[str]()
    first = load_data(asked, seed=0)
    assert len(list(cache.glob("*.npy"))) == 2
    with monkeypatch.context() as patched:
        patched.setattr(maps, "read_recording", lambda *_: pytest.fail("binned again"))
        assert load_data(asked, seed=0, say=said.append).fingerprint == first.fingerprint
    assert said == []
    largest = max(cache.glob("*.npy"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    turned = bytearray(whole)
    turned[5000] ^= 1
    for damaged in (bytes(turned), whole[:-1], whole[: len(whole) // 2], b"", whole + b"more"):
        largest.write_bytes(damaged)
        said.clear()
        assert load_data(asked, seed=0, say=said.append).fingerprint == first.fingerprint
        assert any("is damaged" in line for line in said)
        assert largest.read_bytes() == whole
    # Other files, frames or slicing are other maps.
    write_bin(tmp_path / "NMNIST" / "Train" / "0" / "00000.bin", FIVE)
    assert load_data(asked, seed=0).fingerprint != first.fingerprint
    load_data(section(root=tmp_path, slicing="time"), seed=0)
    load_data(section(root=tmp_path, frames=3), seed=0)
    assert len(list(cache.glob("*.npy"))) == 7


def test_a_recording_that_is_damaged_leaves_no_map(tmp_path: Path, cache: Path) -> None:
    nmnist(tmp_path)
    last = tmp_path / "NMNIST" / "Train" / "9" / "00001.bin"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"00001\.bin cannot be read as events: it is cut off"):
        load_data(section(root=tmp_path), seed=0)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_frames_of_a_map_are_tensors_that_may_be_written(tmp_path: Path) -> None:
    images = load_data(section(root=nmnist(tmp_path)), seed=0).train.images
    images[0] = 7
    assert not torch.equal(images, load_data(section(root=tmp_path), seed=0).train.images)
