"""``idsnn inspect --plan``, ``--source`` and ``--html``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_networks import save_torchvision
from invoking import Outcome, invoke, save_network

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import open_checkpoint, write_checkpoint

TEACHER = build_description("resnet14", 10, width=8)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher of ours and a foreign one, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    save_network(Path("teacher.safetensors"), "teacher", TEACHER)
    save_torchvision(Path("foreign.pth"), build_description("resnet20", 10, width=8, stem="7x7"))
    return tmp_path


def plan(capsys: Capture, *words: str | Path, source: str = "teacher.safetensors") -> Outcome:
    return invoke(capsys, "inspect", "--plan", source, "--to", "spiking-resnet8", "student.width=4", *words)


def init(capsys: Capture, *words: str) -> None:
    given = ("--from", "teacher.safetensors", "--arch", "spiking-resnet8", "-o", "init.safetensors", "student.width=4")
    assert invoke(capsys, "init", *given, *words).code == 0


def entries() -> set[str]:
    return {path.name for path in Path().iterdir()}


@pytest.mark.parametrize("rules", [("--channels", "random", "--head", "copy"), ("init.blocks=last", "--noise", "0.1")])
def test_a_plan_is_the_map_and_the_values_of_what_init_writes(capsys: Capture, rules: tuple[str, ...]) -> None:
    before = entries()
    planned = plan(capsys, *rules, "--json").document
    assert entries() == before
    init(capsys, *rules)
    written = invoke(capsys, "inspect", "init.safetensors", "--json").document
    assert (planned["command"], planned["kind"], written["kind"]) == ("inspect", "plan", "init")
    for key in ("mapping", "statistics", "architecture", "description"):
        assert planned[key] == written[key], key
    teacher = invoke(capsys, "inspect", "teacher.safetensors", "--json").document
    assert planned["source_statistics"] == teacher["statistics"]
    weight = load("init.safetensors").state_dict()["stages.1.0.conv0.weight"].double()
    found = written["statistics"]["stages.1.0.conv0.weight"]
    assert found["std"] == pytest.approx(float(weight.std(correction=0)))
    assert (found["min"], found["max"]) == (float(weight.min()), float(weight.max()))


def test_a_plan_is_shown_in_80_columns_without_colour(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    found = plan(capsys, "--channels", "uniform", "--kernels", "area", "student.stem=3x3", source="foreign.pth")
    assert found.code == 0
    assert [line for line in found.out.splitlines() if len(line) > 80] == []
    assert "\x1b" not in found.out
    flat = " ".join(found.out.split())
    for words in (
        "foreign.pth, tensors named as in torchvision",
        "out 4 of 8 uniformly",
        "7x7 to 3x3 by area",
        "random: the rule head: random",
        "not used stages.0: 1 2; stages.1: 1 2; stages.2: 1 2; head",
    ):
        assert words in flat
    document = plan(capsys, "--channels", "uniform", "--json", source="foreign.pth").document
    share = document["mapping"]["share"]
    assert f"{share['used']:,} of {share['of']:,} trained values" in flat


def test_rules_that_look_at_activations_ask_for_images(capsys: Capture) -> None:
    rules = {"--rescale": "threshold", "--channels": "merge", "--blocks": "greedy"}
    for option, value in rules.items():
        found = plan(capsys, option, value, "--json")
        assert (found.code, found.document["error"]["type"]) == (2, "UsageError")
        assert "data.dataset=NAME" in found.err


def test_statistics_that_would_be_re_estimated_are_told_and_shown(capsys: Capture) -> None:
    words = ("data.dataset=digits", "data.subset=64", "init.reestimate=2", "distill.batch_size=32")
    found = plan(capsys, *words)
    assert found.code == 0
    assert "running statistics re-estimated on 2 training batches" in " ".join(found.out.split())
    without, with_data = (plan(capsys, *each, "--json").document["statistics"] for each in ((), words))
    assert without["stem.conv.weight"] == with_data["stem.conv.weight"]
    assert without["stem.norm.running_mean"] != with_data["stem.norm.running_mean"]


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no student": (("--plan", "teacher.safetensors"), 2, "--to"),
    "no plan": (("teacher.safetensors", "--to", "spiking-resnet8"), 2, "--plan"),
    "classes alone": (("teacher.safetensors", "--num-classes", "4"), 2, "--plan"),
    "a rule alone": (("teacher.safetensors", "--channels", "uniform"), 2, "init.channels=uniform"),
    "nothing": ((), 2, "Give FILE"),
    "three files": (("a", "b", "c"), 2, "3 files"),
    "a second file": (("--plan", "teacher.safetensors", "--to", "spiking-resnet8", "foreign.pth"), 2, "foreign.pth"),
    "no such student": (("--plan", "teacher.safetensors", "--to", "spiking-resnet9"), 2, "Did you mean"),
    "no such source": (("--plan", "gone.pth", "--to", "spiking-resnet8"), 1, "Correct --plan"),
    "no such rule": (("--plan", "teacher.safetensors", "--to", "spiking-resnet8", "--channels", "best"), 2, "uniform"),
    "a training": (("--plan", "teacher.safetensors", "--to", "spiking-resnet8", "distill.lr=1"), 2, "--plan"),
    "a source of a plan": (
        ("--plan", "teacher.safetensors", "--to", "spiking-resnet8", "--source", "foreign.pth"),
        2,
        "--source",
    ),
    "a source of two": (("teacher.safetensors", "foreign.pth", "--source", "foreign.pth"), 2, "--source"),
    "a source of a teacher": (("teacher.safetensors", "--source", "foreign.pth"), 2, "not made from another"),
    "a page of a teacher": (("teacher.safetensors", "--html", "p.html"), 2, "no layer map"),
    "a page nowhere": (("teacher.safetensors", "foreign.pth", "--html", "no/p.html"), 1, "folder"),
    "a page that is a folder": (
        ("teacher.safetensors", "foreign.pth", "--html", ".", "--force"),
        1,
        "written: it is a",
    ),
    "force alone": (("teacher.safetensors", "--force"), 2, "--html"),
    "a page over its input": (
        ("teacher.safetensors", "foreign.pth", "--html", "foreign.pth", "--force"),
        2,
        "read and replaced",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_shown_says_so_and_writes_nothing(capsys: Capture, case: str) -> None:
    words, code, said = WRONG[case]
    before = entries()
    found = invoke(capsys, "inspect", *words, "--json")
    assert (found.code, said in found.err) == (code, True), found.err
    assert found.document["error"]["fix"]
    assert entries() == before


@pytest.mark.parametrize("case", ["plan", "file", "source", "two"])
def test_the_page_holds_the_document(capsys: Capture, case: str) -> None:
    init(capsys)
    words: dict[str, tuple[str, ...]] = {
        "plan": ("--plan", "teacher.safetensors", "--to", "spiking-resnet8"),
        "file": ("init.safetensors",),
        "source": ("init.safetensors", "--source", "teacher.safetensors"),
        "two": ("teacher.safetensors", "foreign.pth"),
    }
    found = invoke(capsys, "inspect", *words[case], "--html", "page.html", "--json")
    assert found.code == 0
    inside = re.search(r'id="document">(.*?)</script>', Path("page.html").read_text(encoding="utf-8"))
    assert inside is not None
    assert json.loads(inside[1]) == found.document
    assert "page.html" in found.err
    again = invoke(capsys, "inspect", *words[case], "--html", "page.html")
    assert (again.code, "--force" in again.err) == (1, True)
    assert invoke(capsys, "inspect", *words[case], "--html", "page.html", "--force").code == 0


def test_a_source_tells_how_far_each_layer_moved(capsys: Capture) -> None:
    init(capsys)
    given = ("init.safetensors", "--source", "teacher.safetensors", "--json")
    still = invoke(capsys, "inspect", *given).document["mapping"]["layers"]
    assert {layer["change"] for layer in still} == {0.0, None}
    state = load("init.safetensors").state_dict()
    with open_checkpoint(Path("init.safetensors")) as file:
        metadata: dict[str, Any] = dict(file.metadata or {})
    # Trained: its provenance keeps that of its start.
    metadata |= {"kind": "student", "provenance": {"start": metadata["provenance"]}}
    before = [state[f"stages.1.0.{part}"].double().flatten() for part in ("conv0.weight", "norm0.weight", "norm0.bias")]
    state["stages.1.0.conv0.weight"] += 0.25
    write_checkpoint(Path("student.safetensors"), state, metadata)
    found = invoke(capsys, "inspect", "student.safetensors", "--source", "teacher.safetensors", "--json").document
    changed = {layer["name"]: layer["change"] for layer in found["mapping"]["layers"] if layer["change"]}
    norm = float(torch.cat(before).norm())
    assert changed == {"stages.1.0.conv0": pytest.approx(0.25 * before[0].numel() ** 0.5 / norm, rel=1e-6)}
    said = invoke(capsys, "inspect", "student.safetensors", "--source", "teacher.safetensors").out
    assert "most of all stages.1.0.conv0" in " ".join(said.split())


def test_another_source_is_refused(capsys: Capture) -> None:
    init(capsys)
    save_network(Path("other.safetensors"), "teacher", TEACHER, seed=1)
    shallow = TEACHER.changed(depths=TEACHER.depths[:2], widths=TEACHER.traits()["widths"][:2])
    save_network(Path("shallow.safetensors"), "teacher", shallow, seed=0)
    others = {"other.safetensors": "other weights", "foreign.pth": "other weights", "shallow.safetensors": "has no"}
    for other, said in others.items():
        found = invoke(capsys, "inspect", "init.safetensors", "--source", other)
        assert (found.code, said in found.err) == (1, True), found.err
