"""Files of other programs: read without running anything, or refused in one line that says what they are."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import pickle
import random
import resource
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from idsnn_cli.checkpoint import open_checkpoint, write_checkpoint
from idsnn_cli.errors import CheckpointError

LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 250
    assert caught.value.fix
    return caught.value


@LEGACY
def test_wrappers_become_dotted_names_and_other_leaves_are_kept(tmp_path: Path, zipped: bool) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    content = {
        "state_dict": OrderedDict([("module.conv1.weight", weight), ("module.bn1.weight", torch.ones(4).half())]),
        "tied": weight,
        "parameter": nn.Parameter(torch.arange(3.0)),
        "optimizer": {"state": {0: {"step": 5, "momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "pair": [torch.zeros(1), torch.ones(1)],
        "epoch": 3,
        "best": np.float64(91.5),
        "count": np.int32(7),
        "milestones": [60, 120],
        "args": argparse.Namespace(arch="resnet20", lr=0.1),
        "none": None,
    }
    path = save(tmp_path / "file", content, zipped)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.shapes() == {
            "state_dict.module.conv1.weight": (4, 3, 3, 3),
            "state_dict.module.bn1.weight": (4,),
            "tied": (4, 3, 3, 3),
            "parameter": (3,),
            "optimizer.state.0.momentum": (2,),
            "pair.0": (1,),
            "pair.1": (1,),
        }
        assert checkpoint.others == {
            "optimizer.state.0.step": 5,
            "optimizer.param_groups.0.lr": 0.1,
            "epoch": 3,
            "best": 91.5,
            "count": 7,
            "milestones": [60, 120],
            # Settings are looked at one by one: some tell of another network.
            "args.arch": "resnet20",
            "args.lr": 0.1,
            "none": None,
        }
        assert checkpoint.metadata is None
        assert torch.equal(checkpoint.get("state_dict.module.conv1.weight"), weight)
        assert checkpoint.dtype("state_dict.module.bn1.weight") == torch.float16
        assert not checkpoint.get("parameter").requires_grad
        with pytest.raises(KeyError):
            checkpoint.get("absent")


@LEGACY
def test_numpy_arrays_become_tensors(tmp_path: Path, zipped: bool) -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "big": np.arange(4, dtype=">i4"),
        "half": np.arange(3, dtype=np.float16),
        "truth": np.array([True, False]),
        "empty": np.zeros((0, 2), dtype=np.int64),
        "scalar": np.array(2.5),
    }
    with open_checkpoint(save(tmp_path / "file", arrays, zipped)) as checkpoint:
        assert set(checkpoint.keys()) == set(arrays)
        for name, array in arrays.items():
            assert np.array_equal(checkpoint.get(name).numpy(), array), name
            assert checkpoint.get(name).numpy().dtype == array.dtype.newbyteorder("=")


def test_arrays_named_as_numpy_1_did(tmp_path: Path) -> None:
    path = save(tmp_path / "new", {"a": np.arange(3.0), "b": np.float32(1.5)}, zipped=False)
    old = tmp_path / "old"
    old.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    with open_checkpoint(old) as checkpoint:
        assert checkpoint.get("a").tolist() == [0.0, 1.0, 2.0]
        assert checkpoint.others == {"b": 1.5}


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array(["text"]), np.zeros(2, dtype=[("x", "f4")])], ids=["object", "str", "rows"]
)
def test_arrays_that_are_no_numbers_are_refused(tmp_path: Path, array: Any) -> None:
    refusal(save(tmp_path / "file", {"w": torch.ones(1), "a": array}, zipped=False))


class MakesMarker:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.mkdir, (str(self.marker),))


class CallsEval:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (eval, ("__import__('os').getcwd()",))


@LEGACY
def test_a_pickle_that_would_run_code_is_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = save(tmp_path / "file.pth", {"w": torch.ones(1), "x": MakesMarker(marker)}, zipped)
    assert "import 'posix.mkdir'" in refusal(path).message
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is harmless, so the test shows nothing"
    path = save(tmp_path / "eval.pth", {"x": CallsEval()}, zipped)
    assert "eval'" in refusal(path).message


def test_a_plain_pickle_is_not_opened(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(MakesMarker(marker), protocol))
        assert "pickle that torch.save did not write" in refusal(path).message
    assert not marker.exists()


def test_a_later_pickle_protocol_is_called_that(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "file", pickle_protocol=4)
    assert "protocol 4" in refusal(tmp_path / "file").message


@LEGACY
@pytest.mark.parametrize("content", [{}, {"epoch": 1}, 3, [1, 2], torch.ones(2)], ids=str)
def test_a_file_without_named_tensors(tmp_path: Path, content: Any, zipped: bool) -> None:
    assert "no named tensors" in refusal(save(tmp_path / "file", content, zipped)).message


def test_containers_without_end(tmp_path: Path) -> None:
    itself: dict[str, Any] = {"w": torch.ones(1)}
    itself["itself"] = itself
    assert "nested without end" in refusal(save(tmp_path / "itself", itself)).message
    doubled: Any = torch.ones(1)
    for _ in range(60):
        doubled = [doubled, doubled]
    assert "nested without end" in refusal(save(tmp_path / "doubled", {"w": doubled})).message


def test_two_leaves_of_one_name(tmp_path: Path) -> None:
    content = {"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}
    assert "'a.b' stands twice" in refusal(save(tmp_path / "file", content)).message


def test_tensors_that_claim_more_than_the_file_has(tmp_path: Path) -> None:
    for name, tensor in (("expanded", torch.ones(1).expand(10**6, 10**6)), ("long", torch.ones(1).expand(10**5))):
        assert "claims more bytes" in refusal(save(tmp_path / name, {"w": tensor})).message


def small_safetensors() -> bytes:
    return safetensors.torch.save({"weight": torch.arange(40.0), "bias": torch.zeros(2)})


def small_zip(**options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.arange(40.0)}, stream, **options)
    return stream.getvalue()


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.pth"))
    return stream.getvalue()


def zipped_again(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def other_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return stream.getvalue()


def script() -> bytes:
    # What torch.jit.save writes, as far as it is looked at here; the real writer warns of its own end.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{name}", b"")
    return stream.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FAULTS: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "the file is empty"),
    ("html", lambda: b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
    ("html.safetensors", lambda: b"<html>" + b" " * 100, "an HTML page"),
    ("xml", lambda: b"<?xml version='1.0'?><Error>NoSuchKey</Error>", "XML or HTML"),
    ("lfs", lambda: LFS, "git-LFS pointer"),
    ("json", lambda: json.dumps({"error": "Not Found", "padding": {"a": 1}}).encode(), "JSON text"),
    ("text", lambda: "Not Found: é".encode(), "text that begins with 'Not Found: é'"),
    ("gzip", lambda: gzip.compress(b"x" * 100), "gzip-compressed"),
    ("tar", tar, "a tar archive"),
    ("hdf5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    ("npy", lambda: b"\x93NUMPY\x01\x00" + bytes(100), "a numpy array"),
    ("zip", other_zip, "a zip archive that neither torch.save nor numpy.savez wrote"),
    ("script", script, "a TorchScript program"),
    ("x.onnx", lambda: b"\x08\x0a\x12\x07pytorch" + bytes(200), "an ONNX model by its name"),
    ("cut.onnx", lambda: b"\x08\x0a", "an ONNX model by its name"),
    ("zipped again", lambda: zipped_again(small_zip()), "zipped again"),
    ("binary", lambda: bytes(range(256)) * 4, "no format that is known"),
    ("binary.safetensors", lambda: bytes(range(256)) * 4, "length makes no sense"),
    ("huge header.safetensors", lambda: (10**15).to_bytes(8, "little") + b"{" * 20, "length makes no sense"),
    ("cut header", lambda: small_safetensors()[:40], "truncated safetensors"),
    ("cut data", lambda: small_safetensors()[:-4], "truncated or damaged safetensors"),
    ("more data", lambda: small_safetensors() + b"1234", "damaged safetensors"),
    ("cut zip", lambda: small_zip()[:-30], "truncated or damaged zip"),
    ("cut legacy", lambda: small_zip(_use_new_zipfile_serialization=False)[:-30], "truncated or damaged file"),
    ("deep header", lambda: (10**5).to_bytes(8, "little") + b'{"a":' * 20_000, "damaged safetensors"),
]


@pytest.mark.parametrize(("name", "make", "words"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_files_that_are_something_else(tmp_path: Path, name: str, make: Callable[[], bytes], words: str) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    assert words in refusal(path).message


def test_places_that_are_no_files(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent").message
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "target is gone" in refusal(tmp_path / "link").message
    os.mkfifo(tmp_path / "fifo")
    assert "not an ordinary file" in refusal(tmp_path / "fifo").message
    write_checkpoint(tmp_path / "init.safetensors", {"a": torch.ones(1)}, {})
    error = refusal(tmp_path)
    assert "a folder" in error.message
    assert error.fix is not None
    assert "init.safetensors" in error.fix
    assert "not a directory" in refusal(tmp_path / "init.safetensors" / "inside").message


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(small_safetensors())
    (tmp_path / "b.safetensors").write_bytes(small_zip())
    (tmp_path / "c.txt").write_bytes(small_zip(_use_new_zipfile_serialization=False))
    for path in tmp_path.iterdir():
        with open_checkpoint(path) as checkpoint:
            assert torch.equal(checkpoint.get("weight"), torch.arange(40.0)), path.name


def fuzzed(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        return content[: rng.randrange(len(content))]
    damaged = bytearray(content)
    reach = len(content) if rng.random() < 0.5 else min(len(content), 700)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(reach)] = rng.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_damaged_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    tensors = {"conv.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)), "n": torch.tensor(3)}
    if kind == "safetensors":
        write_checkpoint(path, tensors, {"architecture": {"depths": [2, 2]}})
    else:
        wrapped = {"state_dict": tensors, "a": np.arange(3.0), "args": argparse.Namespace(x=1), "acc": np.float64(0.5)}
        save(path, wrapped, kind == "zip")
    whole = path.read_bytes()
    rng = random.Random(20)
    refusals: list[str] = []
    for _ in range(300):
        path.write_bytes(fuzzed(whole, rng))
        try:
            with open_checkpoint(path) as checkpoint:
                for key, shape in checkpoint.shapes().items():
                    tensor = checkpoint.get(key)
                    assert tuple(tensor.shape) == shape
                    assert tensor.numel() * tensor.element_size() <= len(whole)
        except CheckpointError as error:
            refusals.append(error.message)
    assert 50 < len(refusals) < 300
    assert all("\n" not in message and len(message) < len(str(path)) + 250 for message in refusals)


def test_reading_takes_no_more_than_is_asked_for(tmp_path: Path) -> None:
    """A sparse file with a true header: 2 GB that nobody reads."""
    count = 5 * 10**8
    header = json.dumps({"big": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    path = tmp_path / "big.safetensors"
    with path.open("wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        handle.truncate(8 + len(header) + 4 * count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.shapes() == {"big": (count,)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak - before < 100_000  # KiB


CHECKPOINTS = os.environ.get("IDSNN_CHECKPOINTS")


@pytest.mark.skipif(not CHECKPOINTS, reason="IDSNN_CHECKPOINTS does not name the folder of public checkpoints")
@pytest.mark.parametrize(
    ("name", "prefix", "count", "parameters"),
    [
        ("akamaster_resnet20-12fca82f.th", "state_dict.module.", 97, 269_722),
        ("akamaster_resnet56-4bfd9763.th", "state_dict.module.", 277, 853_018),
        ("ehanw_resnet20.pth", "", 128, 272_474),
    ],
)
def test_public_files(name: str, prefix: str, count: int, parameters: int) -> None:
    path = Path(str(CHECKPOINTS)) / name
    plain = torch.load(path, weights_only=True, map_location="cpu")
    plain = plain.get("state_dict", plain)
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.keys()) == count
        numbers = 0
        for key in checkpoint.shapes():
            assert checkpoint.get(key).device.type == "cpu"
            assert torch.equal(checkpoint.get(key), plain[key.removeprefix("state_dict.")])
            assert key.startswith(prefix)
            numbers += 0 if "running_" in key or "num_batches" in key else checkpoint.get(key).numel()
        assert numbers == parameters
