"""Checkpoints in several files: read as one, lazily, and refused where index and shards do not fit together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from idsnn_cli.checkpoint import checkpoint_files, checkpoint_sha256, file_sha256, open_checkpoint, write_checkpoint
from idsnn_cli.errors import CheckpointError

TENSORS = {f"layer.{number}.weight": torch.full((2, 3), float(number)) for number in range(4)}
HALVES = [dict(list(TENSORS.items())[:2]), dict(list(TENSORS.items())[2:])]


def sharded(folder: Path, *, torch_files: bool = False) -> Path:
    stem, suffix = ("pytorch_model", "bin") if torch_files else ("model", "safetensors")
    weight_map: dict[str, str] = {}
    for number, half in enumerate(HALVES, 1):
        name = f"{stem}-{number:05}-of-00002.{suffix}"
        if torch_files:
            torch.save(half, folder / name)
        else:
            write_checkpoint(folder / name, half, {})
        weight_map |= dict.fromkeys(half, name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 96}, "weight_map": weight_map}))
    return index


def change(index: Path, weight_map: dict[str, object]) -> None:
    document = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": document["weight_map"] | weight_map}))


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.fix
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("torch_files", [False, True])
@pytest.mark.parametrize("as_folder", [False, True])
def test_shards_are_one_checkpoint(tmp_path: Path, torch_files: bool, as_folder: bool) -> None:
    index = sharded(tmp_path, torch_files=torch_files)
    with open_checkpoint(tmp_path if as_folder else index) as file:
        assert file.shapes() == dict.fromkeys(TENSORS, (2, 3))
        assert file.metadata is None
        assert file.dtype("layer.3.weight") == torch.float32
        read: dict[str, Tensor] = {key: file.get(key).clone() for key in file.shapes()}
        with pytest.raises(KeyError):
            file.get("absent")
    assert all(torch.equal(read[key], value) for key, value in TENSORS.items())


def test_the_hash_covers_every_shard(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    assert [path.name for path in checkpoint_files(tmp_path)] == [index.name, *sorted(set(names(index).values()))]
    before = checkpoint_sha256(index)
    assert before == checkpoint_sha256(tmp_path)
    shard = tmp_path / names(index)["layer.3.weight"]
    assert checkpoint_sha256(shard) == file_sha256(shard)
    write_checkpoint(shard, {key: value + 1 for key, value in HALVES[1].items()}, {})
    assert checkpoint_sha256(index) != before


def names(index: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(index.read_text())["weight_map"]
    return found


def test_a_cache_of_links_is_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for path in checkpoint_files(sharded(blobs)):
        (snapshot / path.name).symlink_to(path)
    with open_checkpoint(snapshot) as file:
        assert set(file.keys()) == set(TENSORS)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/../../b", "..\\b", "", "x\0y"])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    write_checkpoint(tmp_path / "outside.safetensors", {"layer.9.weight": torch.zeros(1)}, {})
    index = sharded(tmp_path / "inner")
    change(index, {"layer.9.weight": name})
    assert "not inside its folder" in refusal(index).message


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    whole, first = index.read_text(), names(index)["layer.0.weight"]
    change(index, {"layer.9.weight": first})
    assert "'layer.9.weight' is in" in refusal(index).message
    index.write_text(json.dumps({"weight_map": {k: v for k, v in names(index).items() if k != "layer.1.weight"}}))
    assert "holds 'layer.1.weight'" in refusal(index).message or "'layer.9.weight'" in refusal(index).message
    index.write_text(whole)
    change(index, {"layer.0.weight": names(index)["layer.3.weight"]})
    assert "layer.0.weight" in refusal(index).message
    index.write_text(whole)
    (tmp_path / first).unlink()
    assert f"the shard {first} is not there" in refusal(tmp_path).message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 99_999, '{"weight_map": "a"}']
)
def test_an_index_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    assert "the index of a sharded checkpoint" in refusal(index).message


def test_an_index_does_not_lead_to_another_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    change(index, {"layer.9.weight": index.name})
    assert "JSON text" in refusal(index).message


def test_a_folder_of_two_is_ambiguous_and_of_none_is_a_folder(tmp_path: Path) -> None:
    assert "this is a folder" in refusal(tmp_path).message
    sharded(tmp_path)
    sharded(tmp_path, torch_files=True)
    assert "2 sharded checkpoints" in refusal(tmp_path).message


def test_an_index_larger_than_any_resnets_is_not_parsed(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    with index.open("wb") as handle:
        handle.truncate(10_000_001)
    assert "an index of more than" in refusal(index).message


def test_a_folder_of_transformers_with_one_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "a folder" in refusal(tmp_path).message
    torch.save(HALVES[0], tmp_path / "pytorch_model.bin")
    with open_checkpoint(tmp_path) as file:
        assert set(file.keys()) == set(HALVES[0])
    write_checkpoint(tmp_path / "model.safetensors", TENSORS, {})
    with open_checkpoint(tmp_path) as file:
        assert set(file.keys()) == set(TENSORS)
    assert checkpoint_files(tmp_path) == (tmp_path / "model.safetensors",)
    assert checkpoint_sha256(tmp_path) == file_sha256(tmp_path / "model.safetensors")
    # What is split is told by its index alone.
    sharded(tmp_path)
    assert len(checkpoint_files(tmp_path)) == 3
