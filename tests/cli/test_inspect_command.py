from __future__ import annotations

from pathlib import Path

import pytest
import torch
from invoking import invoke, save_network

from idsnn_cli.architecture import build_description
from idsnn_cli.initializer import initialize
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint
from idsnn_cli.report.inspect.comparison import compare_checkpoints

TEACHER = build_description("resnet14", 10, width=8)
STUDENT = build_description("spiking-resnet8", 10, width=4, timesteps=4)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher and a student made from it, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    save_network(Path("teacher.safetensors"), "teacher", TEACHER)
    init = initialize("teacher.safetensors", STUDENT)
    data = {"name": "digits", "classes": ["a", "b"], "fingerprint": "0" * 64}
    save_network(Path("init.safetensors"), "init", STUDENT, mapping=init.plan.to_dict(), data=data)
    return tmp_path


def test_a_teacher_shows_what_it_is(capsys: Capture) -> None:
    found = invoke(capsys, "inspect", "teacher.safetensors")
    assert found.code == 0
    flat = " ".join(found.out.split())
    assert TEACHER.describe() in flat
    assert f"{TEACHER.parameters():,}" in flat
    for words in ("kind teacher", "stages.2", "test_top1: 91.5", "alpha 0.3", "temperature 4", "seed: 3"):
        assert words in flat
    assert "start.dropped: 9 entries" in flat
    assert "Where its first weights came from" not in flat


def test_a_recipe_shows_what_is_unusual_in_it(capsys: Capture) -> None:
    unusual = {"alpha": 0, "features": "attention", "feature_weight": 2.0, "tet_weight": 0.0, "loss_on": "mean"}
    save_network(
        Path("lasnn.safetensors"), "student", STUDENT, recipe={"distill": unusual, "init": {"convert": "none"}}
    )
    flat = " ".join(invoke(capsys, "inspect", "lasnn.safetensors").out.split())
    assert "distill: alpha 0, features attention, feature_weight 2" in flat
    assert not any(words in flat for words in ("tet_weight", "loss_on", "convert"))


def test_a_student_shows_its_mapping_block_by_block(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = [" ".join(line.split()) for line in invoke(capsys, "inspect", "init.safetensors").out.splitlines()]
    assert "Where its first weights came from" in lines
    assert "stem stem 50% all out first 4 of 8, in whole" in lines
    assert "stages.0.0 stages.0.0 26% all out first 4 of 8, in first 4 of 8" in lines
    at = lines.index("stages.1.0 stages.1.0 26% conv0 norm0 shortcut out first 8 of 16, in first 4 of 8")
    assert lines[at + 1] == "conv1 norm1 out first 8 of 16, in first 8 of 16"
    assert "head - - all random: the rule head: random" in lines
    assert any(line.startswith("data digits, 2 classes") for line in lines)


@pytest.mark.parametrize("words", [("init.safetensors",), ("teacher.safetensors", "init.safetensors")])
def test_output_fits_80_columns_and_has_no_colour(capsys: Capture, words: tuple[str, ...]) -> None:
    found = invoke(capsys, "inspect", *words)
    assert found.code == 0
    assert [line for line in found.out.splitlines() if len(line) > 80] == []
    assert "\x1b" not in found.out


def test_json_is_the_report_and_nothing_else(capsys: Capture) -> None:
    found = invoke(capsys, "inspect", "init.safetensors", "--json")
    assert found.document == {
        "command": "inspect",
        **describe_checkpoint(Path("init.safetensors"), values=True).to_dict(),
    }
    found = invoke(capsys, "inspect", "teacher.safetensors", "init.safetensors", "--json")
    expected = compare_checkpoints(Path("teacher.safetensors"), Path("init.safetensors")).to_dict()
    assert found.document == {"command": "inspect", **expected}


def test_a_comparison_lists_every_tensor_but_the_counters(capsys: Capture) -> None:
    save_network(Path("other.safetensors"), "student", STUDENT, seed=1)
    found = invoke(capsys, "inspect", "init.safetensors", "other.safetensors")
    listed = {line.split()[0]: line.split()[1:] for line in found.out.splitlines() if "." in line.split(" ")[0]}
    assert set(listed) == {name for name in STUDENT.tensors() if not name.endswith("num_batches_tracked")}
    document = invoke(capsys, "inspect", "init.safetensors", "other.safetensors", "--json").document
    row = next(row for row in document["tensors"] if row["name"] == "stem.conv.weight")
    assert listed["stem.conv.weight"] == ["changed", f"{row['relative_change']:.4f}", f"{row['cosine']:.4f}"]
    assert listed["stem.norm.bias"] == ["same"]
    counts = document["summary"]
    assert f"same {counts['same']}, changed {counts['changed']}" in found.out
    assert "different" in found.out


def test_shapes_that_differ_are_shown(capsys: Capture) -> None:
    out = " ".join(invoke(capsys, "inspect", "teacher.safetensors", "init.safetensors").out.split())
    assert "stem.conv.weight 8x3x3x3 / 4x3x3x3" in out
    assert "stages.2.1.conv0.weight only in A" in out
    assert "differs kind: ann in A, spiking in B" in out


@pytest.mark.parametrize("as_json", [False, True])
def test_exit_code_tells_whether_two_differ(capsys: Capture, as_json: bool) -> None:
    options = ["--exit-code", *(["--json"] if as_json else [])]
    same = invoke(capsys, "inspect", "init.safetensors", "init.safetensors", *options)
    other = invoke(capsys, "inspect", "teacher.safetensors", "init.safetensors", *options)
    without = invoke(capsys, "inspect", "teacher.safetensors", "init.safetensors")
    assert (same.code, other.code, without.code) == (0, 1, 0)
    if as_json:
        assert (same.document["identical"], other.document["identical"]) == (True, False)
    assert "Error" not in other.err


def test_exit_code_needs_a_second_file(capsys: Capture) -> None:
    found = invoke(capsys, "inspect", "init.safetensors", "--exit-code", "--json")
    assert found.code == 2
    assert found.document["error"]["type"] == "UsageError"


def test_a_foreign_file_is_shown_with_what_was_dropped_and_what_comes_next(capsys: Capture) -> None:
    import torchvision

    network = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=7, width_per_group=64
    )
    torch.save({"model": network.state_dict(), "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, "f.pth")
    found = invoke(capsys, "inspect", "f.pth")
    flat = " ".join(found.out.split())
    assert "ResNet-10" in flat
    assert "7 classes" in flat
    assert "optimizer.state.0.exp_avg" in flat
    assert "input.mean, input.std" in flat
    assert "idsnn init --from f.pth --arch spiking-resnet18" in found.err
    assert invoke(capsys, "inspect", "f.pth", "--quiet").err == ""


@pytest.mark.parametrize("content", [b"<!doctype html><html>", b"", b"\x80\x04cposix\nsystem\n"])
def test_what_is_no_checkpoint_is_one_error_that_says_so(capsys: Capture, content: bytes) -> None:
    Path("x.pth").write_bytes(content)
    for words in (("x.pth",), ("teacher.safetensors", "x.pth")):
        found = invoke(capsys, "inspect", *words)
        assert found.code == 1
        assert found.out == ""
        assert "x.pth" in found.err


def test_what_is_no_resnet_is_one_error_that_says_so(capsys: Capture) -> None:
    torch.save({"encoder.weight": torch.zeros(2, 2)}, "x.pth")
    found = invoke(capsys, "inspect", "x.pth", "--json")
    assert found.code == 1
    assert found.document["error"]["type"] == "FamilyError"
    assert "x.pth" in found.document["error"]["message"]
