"""Whole runs of students that learn their decays, and what of them is in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoking import invoke
from tiny_runs import STEPS, metadata_of, weights_of

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {dataset: digits, subset: 60, test_subset: 30, augment: {crop: 0, flip: false}}
teacher: {arch: resnet8, width: 2, epochs: 1, batch_size: 20}
student: {arch: spiking-resnet8, width: 2, timesteps: 2, decay: 0.5, learn_decay: layer}
init: {head: copy, reestimate: 1}
distill: {epochs: 1, batch_size: 20, decay_norm_and_bias: false}
eval: {measure: [energy, activity, beyond]}
runtime: {device: cpu, precision: fp32}
"""


@pytest.mark.slow
def test_a_whole_run(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plif.yaml").write_text(RECIPE)
    found = invoke(capsys, "run", "plif.yaml", "--json")
    assert found.code == 0, found.err
    assert [(step["step"], step["status"]) for step in found.document["steps"]] == [(step, "done") for step in STEPS]
    run = Path("runs/plif")
    assert metadata_of(run / "student.safetensors")["architecture"]["learn_decay"] == "layer"
    trained, start = (weights_of(run / f"{name}.safetensors") for name in ("student", "init"))
    decays = [name for name in start if name.endswith("decay_logit")]
    assert len(decays) == 7
    assert all(start[name] == bytes(4) for name in decays), "0.5 is the sigmoid of 0"
    assert all(trained[name] != start[name] for name in decays), "a decay learnt nothing"
    shown = invoke(capsys, "inspect", run / "student.safetensors")
    assert "learnt decay" in shown.out
    document = invoke(capsys, "inspect", run / "student.safetensors", "--json").document
    assert len(document["decays"]) == 7
    assert all(0.3 < decay < 0.7 and decay != 0.5 for decay in document["decays"].values())
    measured = json.loads((run / "eval.json").read_text())["results"][-1]
    assert measured["energy"]["synops"] > 0
    assert len(measured["beyond"]["top1_by_step"]) == 4
    again = invoke(capsys, "run", "plif.yaml", "--json")
    assert {step["status"] for step in again.document["steps"]} == {"unchanged"}
    # A start from that student, by the commands.
    words = ("student.learn_decay=layer", "student.width=2", "-o", "next.safetensors")
    made = invoke(capsys, "init", "--from", run / "student.safetensors", "--arch", "spiking-resnet14", *words)
    assert made.code == 0, made.err
    begun = weights_of(Path("next.safetensors"))
    assert begun["stages.1.0.act1.decay_logit"] == trained["stages.1.0.act1.decay_logit"]
    refused = invoke(capsys, "run", "plif.yaml", "student.decay=1", "--run-dir", "other")
    assert refused.code == 2
    assert "learn_decay layer cannot start from a decay of 1" in " ".join(refused.err.split())
