"""Commands on foreign networks with traits that no student has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from invoking import invoke

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.models import build, load

Capture = pytest.CaptureFixture[str]
PLAIN = build_description("resnet18", 10, width=8)
TRAITS = {
    "se": PLAIN.changed(attention="se", attention_sizes=(2, 2, 4, 4)),
    "eca": PLAIN.changed(attention="eca", attention_sizes=(3, 3, 3, 3)),
    "deep": PLAIN.changed(stem="deep", stem_widths=(4, 4, 8)),
    "preactivation": PLAIN.changed(preactivation=True),
    "groups": build_description("resnet50", 10, width=8).changed(groups=2, inner_widths=(16, 32, 64, 128)),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def save(architecture: Architecture) -> None:
    """A file that another program could have written: a state dict alone."""
    torch.save(build(architecture, seed=0).state_dict(), "theirs.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAITS)
def test_inspect_describes_it_and_what_it_proposes_can_be_done(capsys: Capture, name: str) -> None:
    save(TRAITS[name])
    found = invoke(capsys, "inspect", "theirs.pth")
    assert found.code == 0
    assert TRAITS[name].describe() in " ".join(found.out.split())
    words = ("init", "--from", "theirs.pth", "--arch", "spiking-resnet18", "-o", "init.safetensors")
    assert "Next: idsnn inspect --plan theirs.pth --to spiking-resnet18" in found.err
    assert " ".join(("idsnn", *words)) in found.err
    assert invoke(capsys, "inspect", "--plan", "theirs.pth", "--to", "spiking-resnet18").code == 0
    made = invoke(capsys, *words)
    assert made.code == 0, made.err
    assert load("init.safetensors").architecture.kind == "spiking"


def test_a_student_of_attention_shows_what_was_left_out(capsys: Capture) -> None:
    save(TRAITS["se"])
    invoke(capsys, "init", "--from", "theirs.pth", "--arch", "spiking-resnet18", "-o", "init.safetensors")
    flat = " ".join(invoke(capsys, "inspect", "init.safetensors").out.split())
    assert "stages.3.1.attention.reduce.weight and 3 tensors beside it are left out" in flat


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAITS)
def test_eval_runs_it_as_it_is(capsys: Capture, name: str) -> None:
    save(TRAITS[name])
    found = invoke(capsys, "eval", "--checkpoint", "theirs.pth", "--data", "digits", "--json")
    assert found.code == 0, found.err
    (result,) = found.document["results"]
    assert result["architecture"] == TRAITS[name].describe()
    assert (result["kind"], result["images"]) == ("ann", 360)
    assert result["parameters"] == TRAITS[name].parameters()
