"""A whole run of a student that learns its starts, and what of it is in files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from invoking import invoke
from tiny_runs import STEPS, metadata_of, weights_of

from idsnn_cli import load

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {dataset: digits, subset: 60, test_subset: 30, augment: {crop: 0, flip: false}}
teacher: {arch: resnet8, width: 2, epochs: 1, batch_size: 20, shortcut: pad}
pretrain: {epochs: 1, batch_size: 20, activation: qcfs}
student:
  {arch: spiking-resnet8, width: 2, timesteps: 2, shortcut: pad, block: ms, threshold: layer, v_threshold: 1, decay: 1,
   reset: soft, start: half, reset_gradient: full, learn_start: channel}
init: {head: copy, convert: learnt-thresholds}
distill: {epochs: 1, batch_size: 20, decay_norm_and_bias: false, lr: 0.1}
eval: {measure: [activity, beyond]}
runtime: {device: cpu, precision: PRECISION}
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_whole_run(precision: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("starts.yaml").write_text(RECIPE.replace("PRECISION", precision))
    found = invoke(capsys, "run", "starts.yaml", "--json")
    assert found.code == 0, found.err
    assert {step["status"] for step in found.document["steps"]} == {"done"}
    assert {step["step"] for step in found.document["steps"]} == {*STEPS, "pretrain"}
    run = Path("runs/starts")
    assert metadata_of(run / "student.safetensors")["architecture"]["learn_start"] == "channel"
    trained, start = (weights_of(run / f"{name}.safetensors") for name in ("student", "init"))
    shifts = [name for name in start if name.endswith("start_shift")]
    assert len(shifts) == 7
    assert not any(any(start[name]) for name in shifts), "they begin at 0"
    learnt = [struct.unpack(f"<{len(trained[name]) // 4}f", trained[name]) for name in shifts]
    assert any(value for each in learnt for value in each)
    assert all(abs(value) < 2 for each in learnt for value in each)
    assert "starts learnt by channel" in invoke(capsys, "inspect", run / "student.safetensors").out
    counted = invoke(capsys, "inspect", run / "student.safetensors", "--json").document["parameters"]
    assert counted == sum(each.numel() for each in load(run / "student.safetensors").parameters())
    measured = json.loads((run / "eval.json").read_text())["results"][-1]
    assert len(measured["beyond"]["top1_by_step"]) == 4
    again = invoke(capsys, "run", "starts.yaml", "--json")
    assert {step["status"] for step in again.document["steps"]} == {"unchanged"}
    words = ("--arch", "spiking-resnet8", "student.width=2", "student.learn_start=channel", "-o", "next.safetensors")
    refused = invoke(capsys, "init", "--from", run / "student.safetensors", *words)
    assert refused.code == 1
    assert not Path("next.safetensors").exists()
