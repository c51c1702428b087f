"""Checkpoints that cannot be what a command needs: one typed error in a few lines, exit 1, nothing written."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import fuzzing
import pytest
import torch
from invoking import Outcome, invoke
from torch import Tensor, nn

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.models import build

Capture = pytest.CaptureFixture[str]
State = dict[str, Tensor]
COMMANDS = {
    "inspect": ("inspect",),
    "init": ("init", "--arch", "spiking-resnet8", "--num-classes", "10", "-o", "init.safetensors", "--from"),
    "eval": ("eval", "--data", "digits", "--normalise", "none", "-o", "eval.json", "--kind", "ann", "--checkpoint"),
    "auto": ("eval", "--data", "digits", "--normalise", "auto", "-o", "eval.json", "--kind", "ann", "--checkpoint"),
    "plan": ("init", "--arch", "spiking-resnet8", "--num-classes", "10", "-o", "x", "--dry-run", "--from"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state() -> State:
    """A small ResNet of three stages of two blocks, as another program would store it."""
    found = build(build_description("resnet14", 10, width=4), seed=0).state_dict()
    return {key: value for key, value in found.items() if not key.startswith("input.")}


def no_resnet() -> State:
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)).state_dict()


def without_stage(stage: int) -> State:
    return {key: value for key, value in state().items() if not key.startswith(f"stages.{stage}.")}


def transposed(axes: tuple[int, ...], name: str) -> State:
    changed = state()
    changed[name] = changed[name].permute(axes).contiguous()
    return changed


def not_finite(value: float) -> State:
    changed = state()
    changed["stem.conv.weight"][1, 2, 0, 0] = value
    return changed


def other_width() -> State:
    """The second block of the second stage is wider inside and outside than the first."""
    wider = build(build_description("resnet14", 10, width=6), seed=0).state_dict()
    return state() | {key: value for key, value in wider.items() if key.startswith("stages.1.1.")}


def kernels(change: Callable[[Tensor], Tensor]) -> State:
    return {key: change(value) if value.dim() == 4 else value for key, value in state().items()}


BAD: dict[str, Callable[[], State]] = {
    "no resnet": no_resnet,
    "first stage missing": lambda: without_stage(0),
    "middle stage missing": lambda: without_stage(1),
    "kernel as in TensorFlow": lambda: transposed((2, 3, 1, 0), "stages.1.1.conv0.weight"),
    "kernel's channels swapped": lambda: transposed((1, 0, 2, 3), "stages.2.0.conv0.weight"),
    "stem as in TensorFlow": lambda: transposed((2, 3, 1, 0), "stem.conv.weight"),
    "width within a stage": other_width,
    "nan": lambda: not_finite(torch.nan),
    "infinity": lambda: not_finite(-torch.inf),
    "complex": lambda: kernels(lambda kernel: kernel.to(torch.complex64)),
    "whole numbers": lambda: kernels(lambda kernel: (100 * kernel).to(torch.int8)),
    "sparse": lambda: kernels(Tensor.to_sparse),
    "without values": lambda: {key: value.to("meta") for key, value in state().items()},
}


VALUES = ("nan", "infinity", "complex", "whole numbers")


def refused(capsys: Capture, *words: str) -> Outcome:
    before = sorted(Path().rglob("*"))
    found = invoke(capsys, *words)
    assert found.code == 1, found.err
    assert 1 <= len(found.err.strip().splitlines()) <= 5, found.err
    assert sorted(Path().rglob("*")) == before
    error = invoke(capsys, *words, "--json").document["error"]
    assert error["fix"]
    assert error["type"] in ("CheckpointError", "FamilyError", "MappingError")
    return found


# What only looks at names and shapes reads no values.
CASES = [(name, word) for name in BAD for word in COMMANDS if not (name in VALUES and word in ("inspect", "plan"))]


@pytest.mark.parametrize(("name", "command"), CASES)
def test_a_bad_checkpoint_is_refused(capsys: Capture, name: str, command: str) -> None:
    torch.save(BAD[name](), "bad.pth")
    refused(capsys, *COMMANDS[command], "bad.pth")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("complex", "complex64 values"),
        ("whole numbers", "int8 values"),
        ("sparse", "'stem.conv.weight' and 14 more cannot be read: quantised, sparse, or saved without values"),
        ("without values", "cannot be read: quantised, sparse, or saved without values"),
    ],
)
def test_tensors_that_are_no_weights_are_named(capsys: Capture, name: str, words: str) -> None:
    torch.save(BAD[name](), "bad.pth")
    for command in ("init", "eval"):
        assert words in refused(capsys, *COMMANDS[command], "bad.pth").err


def test_the_good_ones_are_not(capsys: Capture) -> None:
    torch.save(state(), "good.pth")
    for name in ("inspect", "init", "eval"):
        assert invoke(capsys, *COMMANDS[name], "good.pth").code == 0


@pytest.mark.parametrize("kind", ["safetensors", "shard", "index", "zip", "legacy", "npz"])
def test_a_damaged_file_of_each_kind_through_the_commands(capsys: Capture, tmp_path: Path, kind: str) -> None:
    (tmp_path / "files").mkdir()
    path, entry = fuzzing.originals(tmp_path / "files")[kind]
    whole = path.read_bytes()
    rng = random.Random(4)
    for words in (COMMANDS["inspect"], COMMANDS["init"], COMMANDS["eval"]):
        path.write_bytes(whole[: rng.randrange(len(whole))])
        refused(capsys, *words, str(entry))


def test_an_index_that_leads_nowhere(capsys: Capture) -> None:
    write_checkpoint(Path("part.safetensors"), state(), {})
    for weight_map in ({}, {"a": 3}, {"a": "../part.safetensors"}, {"stem.conv.weight": "part.safetensors"}):
        Path("a.index.json").write_text(json.dumps({"weight_map": weight_map}))
        refused(capsys, *COMMANDS["init"], "a.index.json")
