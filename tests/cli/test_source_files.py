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
    return build(build_description("resnet8", 10, width=4), seed).state_dict()


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
        assert shown["parameters"] == build_description("resnet8", 10, width=4).parameters()
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


def both_copies() -> dict[str, dict[str, Tensor]]:
    return {"state_dict": theirs(1), "state_dict_ema": {f"module.{key}": value for key, value in theirs(2).items()}}


@pytest.mark.slow
@pytest.mark.parametrize(("words", "seed"), [((), 2), (("--weights", "ema"), 2), (("--weights", "raw"), 1)])
def test_the_copy_of_the_weights_is_chosen_and_said(capsys: Capture, words: tuple[str, ...], seed: int) -> None:
    torch.save(both_copies(), "both.pth")
    done = invoke(
        capsys,
        "init",
        "--from",
        "both.pth",
        "--arch",
        "spiking-resnet8",
        "student.width=4",
        "-o",
        "a.safetensors",
        *words,
    )
    assert done.code == 0, done.err
    taken = "averaged" if seed == 2 else "raw"
    assert f"the {taken}" in done.err
    stem = "stem.conv.weight"
    assert torch.equal(load_state(Path("a.safetensors"))[0][stem], theirs(seed)[stem])
    shown = invoke(capsys, "inspect", "both.pth", *words)
    assert f"the {taken}" in " ".join(shown.out.split())
    own = {"architecture": build_description("resnet8", 10, width=4).to_dict()}
    write_checkpoint(Path("own.safetensors"), theirs(seed), own)
    assert invoke(capsys, "inspect", "both.pth", "own.safetensors", "--exit-code", "-q", *words).code == 0
    measured = invoke(capsys, "eval", "--checkpoint", "both.pth", "--data", "digits", "--kind", "ann", *words)
    assert measured.code == 0, measured.err
    assert f"the {taken}" in measured.err


def test_a_teacher_in_a_recipe_chooses_too(capsys: Capture) -> None:
    state = {
        key: build(build_description("resnet8", 10, width=4), n).state_dict()
        for n, key in enumerate(("model", "model_ema"))
    }
    torch.save(state, "both.pth")
    done = invoke(
        capsys,
        "teacher",
        "quickstart",
        "teacher.checkpoint=both.pth",
        "teacher.weights=raw",
        "teacher.kind=ann",
        "--run-dir",
        "run",
    )
    assert done.code == 0, done.err
    assert "the raw ones are taken" in done.err
    stem = "stem.conv.weight"
    assert torch.equal(load_state(Path("run/teacher.safetensors"))[0][stem], state["model"][stem])
    wrong = invoke(capsys, "teacher", "quickstart", "teacher.weights=EMA2")
    assert wrong.code == 2
    assert "teacher.weights" in wrong.err
    assert "auto, ema, raw" in wrong.err


def test_unexplained_tensors_are_dropped_where_that_is_allowed(capsys: Capture) -> None:
    torch.save(theirs() | {"projector.weight": torch.zeros(3, 3)}, "more.pth")
    refused = invoke(capsys, "inspect", "more.pth")
    assert refused.code == 1
    assert "projector" in refused.err
    assert "--allow-unused" in refused.err
    shown = invoke(capsys, "inspect", "more.pth", "--allow-unused", "--json").document
    assert shown["dropped"] == {"projector.weight": "unexplained, allowed"}
    init(capsys, "more.pth", "a.safetensors", "student.width=4", "--allow-unused")
    provenance = load_state(Path("a.safetensors"))[1]["provenance"]
    assert provenance["dropped"] == {"projector.weight": "unexplained, allowed"}


def test_what_leaves_no_choice_refuses_one(capsys: Capture) -> None:
    torch.save(theirs(), "bare.pth")
    init(capsys, "bare.pth", "own.safetensors", "student.width=4")
    assert invoke(capsys, "inspect", "own.safetensors", "--weights", "raw").code == 2
    assert invoke(capsys, "eval", "--checkpoint", "own.safetensors", "--data", "digits", "--weights", "raw").code == 2
    lacking = invoke(capsys, "inspect", "bare.pth", "--weights", "ema")
    assert lacking.code == 1
    assert "no averaged (EMA) weights" in lacking.err
    recipe = invoke(capsys, "init", "quickstart", "--weights", "ema")
    assert recipe.code == 2
    assert "--weights goes with --from" in recipe.err
