"""Whole runs with students of MS blocks and of bottlenecks, and what the commands say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoking import invoke
from tiny_runs import STEPS, metadata_of, weights_of

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {dataset: digits, subset: 60, test_subset: 30, augment: {crop: 0, flip: false}}
teacher: {arch: TEACHER, width: 2, epochs: 1, batch_size: 20}
student: {arch: STUDENT, width: 2, timesteps: 2, block: BLOCK}
init: {head: copy, reestimate: 1}
distill: {epochs: 1, batch_size: 20}
eval: {measure: [energy, activity]}
runtime: {device: cpu}
"""


@pytest.mark.parametrize(
    ("teacher", "student", "block", "projections"),
    [
        ("resnet14", "spiking-resnet8", "ms", 2),
        ("resnet50", "spiking-resnet50", "spiking", 4),
        ("resnet50", "spiking-resnet50", "sew", 4),
        ("resnet50", "spiking-resnet50", "ms", 4),
    ],
)
def test_a_whole_run(
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    teacher: str,
    student: str,
    block: str,
    projections: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.replace("TEACHER", teacher).replace("STUDENT", student).replace("BLOCK", block)
    Path("shapes.yaml").write_text(text)
    found = invoke(capsys, "run", "shapes.yaml", "--json")
    assert found.code == 0, found.err
    assert [(step["step"], step["status"]) for step in found.document["steps"]] == [(step, "done") for step in STEPS]
    run = Path("runs/shapes")
    described = metadata_of(run / "student.safetensors")["architecture"]
    assert (described["spiking_block"], described["block"]) == (
        block,
        "bottleneck" if student == "spiking-resnet50" else "basic",
    )
    trained, start = (weights_of(run / f"{name}.safetensors") for name in ("student", "init"))
    assert all(trained[name] != start[name] for name in start if name.endswith("conv0.weight")), (
        "a kernel learnt nothing"
    )
    measured = json.loads((run / "eval.json").read_text())["results"][-1]
    layers = {layer["layer"]: layer for layer in measured["energy"]["layers"]}
    values = {name for name, layer in layers.items() if layer["reads"] == "values"}
    around = {name for name in layers if name.endswith("shortcut.conv")}
    assert len(around) == projections
    assert values == {"stem.conv", "head", *(around if block == "ms" else ())}
    products = sum(layers[name]["macs"] * (2 if name in around else 1) for name in values)
    assert measured["energy"]["macs"] == products
    neurons = {layer["layer"] for layer in measured["activity"]}
    assert ("final_act" in neurons, "stem.act" in neurons) == ((True, False) if block == "ms" else (False, True))
    shown = invoke(capsys, "inspect", str(run / "student.safetensors"))
    assert shown.code == 0, shown.err
    assert {"spiking": "spiking blocks", "sew": "SEW blocks (ADD)", "ms": "MS blocks"}[block] in shown.out
    refused = invoke(capsys, "export", str(run / "student.safetensors"), "-o", "folded.safetensors")
    assert (refused.code, Path("folded.safetensors").exists()) == (2, False)
    assert "amplitude" in refused.err


def test_a_basic_teacher_starts_no_bottleneck_student(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.replace("TEACHER", "resnet18").replace("STUDENT", "spiking-resnet50").replace("BLOCK", "ms")
    Path("shapes.yaml").write_text(text)
    found = invoke(capsys, "run", "shapes.yaml")
    assert found.code in (1, 2)
    assert "a block of 2 convolutions does not become one of 3" in found.err
    assert "Traceback" not in found.err
