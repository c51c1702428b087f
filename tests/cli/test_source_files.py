"""Every form that a source file may have, through the commands: the same student from all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from invoking import invoke
from torch import Tensor

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import load_state, write_checkpoint
from idsnn_cli.models import build

Capture = pytest.CaptureFixture[str]


def theirs(seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a small ResNet, with canonical names and its own normalisation."""
    return build(build_description("resnet8", 3, width=4), seed).state_dict()


def init(capsys: Capture, source: str, output: str, *words: str) -> None:
    done = invoke(capsys, "init", "--from", source, "--arch", "spiking-resnet8", "-o", output, "-q", *words)
    assert done.code == 0, done.err


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_file_shards_and_arrays_start_the_same_student(capsys: Capture) -> None:
    state = theirs()
    write_checkpoint(Path("whole.safetensors"), state, {})
    np.savez("arrays.npz", allow_pickle=False, **{key: value.numpy() for key, value in state.items()})
    Path("shards").mkdir()
    weight_map = {key: f"part-{number % 3}.bin" for number, key in enumerate(state)}
    for name in set(weight_map.values()):
        torch.save({key: state[key] for key in state if weight_map[key] == name}, Path("shards", name))
    Path("shards", "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    students = []
    for number, source in enumerate(("whole.safetensors", "arrays.npz", "shards")):
        init(capsys, source, f"{number}.safetensors", "student.width=4")
        students.append(load_state(Path(f"{number}.safetensors")))
        shown = invoke(capsys, "inspect", source, "--json").document
        assert shown["file_bytes"] > 0
        assert shown["parameters"] == build_description("resnet8", 3, width=4).parameters()
    for tensors, metadata in students[1:]:
        assert all(torch.equal(tensors[key], value) for key, value in students[0][0].items())
        provenance = metadata["provenance"]
        assert provenance["source_tensors_sha256"] == students[0][1]["provenance"]["source_tensors_sha256"]
    assert invoke(capsys, "inspect", "shards", "arrays.npz", "--exit-code", "-q").code == 0


def test_a_shard_that_is_missing_is_one_short_error(capsys: Capture) -> None:
    Path("model.safetensors.index.json").write_text(json.dumps({"weight_map": {"conv.weight": "absent.safetensors"}}))
    for words in (["inspect", "."], ["init", "--from", ".", "--arch", "spiking-resnet8", "-o", "x.safetensors"]):
        done = invoke(capsys, *words)
        assert done.code == 1
        assert "the shard absent.safetensors is not there" in done.err
    assert not Path("x.safetensors").exists()
