"""``--root``, ``--levels``, tables of a few rows and what is said: through the commands, recipes and Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from invoking import invoke
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import load_state
from idsnn_cli.models import build
from idsnn_cli.sources.tables import read_scheme

Capture = pytest.CaptureFixture[str]
State = dict[str, Tensor]
NONE = ((0.0,) * 3, (1.0,) * 3)
MEASURE = ("--data", "digits", "--normalise", "none")
START = ("--arch", "spiking-resnet8", "student.width=4", "--normalise", "none", "--head", "match")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")


def theirs(seed: int = 0) -> State:
    """A ResNet-8 of width 4 under torchvision's names."""
    ours = build(build_description("resnet8", 10, width=4), seed).state_dict()
    state: State = {}
    for name, value in ours.items():
        module, _, leaf = name.rpartition(".")
        parts = module.split(".")
        if parts[0] == "stages":
            words = {"conv0": "conv1", "norm0": "bn1", "conv1": "conv2", "norm1": "bn2"}
            rest = words.get(parts[3]) or {"conv": "downsample.0", "norm": "downsample.1"}[parts[-1]]
            state[f"layer{int(parts[1]) + 1}.{parts[2]}.{rest}.{leaf}"] = value
        elif parts[0] in ("stem", "head"):
            state[f"{'fc' if parts[0] == 'head' else {'conv': 'conv1', 'norm': 'bn1'}[parts[1]]}.{leaf}"] = value
    return state


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def test_the_helpers_names_are_torchvisions() -> None:
    network = ResNet(BasicBlock, [1, 1, 1, 1]).state_dict()
    assert {key for key in network if not key.startswith("layer4.")} == set(theirs())


@pytest.mark.slow
def test_a_root_chooses_between_networks_in_every_command(capsys: Capture) -> None:
    student, teacher = theirs(1), theirs(2)
    torch.save(under("student.", student) | under("teacher.", teacher), "both.pth")
    images = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    for words, state in (((), student), (("--root", "teacher"), teacher)):
        torch.save(state, "one.pth")
        shown = invoke(capsys, "inspect", "both.pth", *words, "--json").document
        assert ("it holds 2 networks" in (shown["choice"] or "")) is (words == ())
        measured = [
            invoke(capsys, "eval", "--checkpoint", *file, *MEASURE, "--json")
            for file in (("both.pth", *words), ("one.pth",))
        ]
        assert [each.code for each in measured] == [0, 0]
        first, second = (each.document["results"][0] for each in measured)
        assert (first["top1"], first["loss"]) == (second["top1"], second["loss"])
        assert ("it holds 2 networks: under 'student.', under 'teacher.'" in measured[0].err) is (words == ())
        out = f"{len(words)}.safetensors"
        made = invoke(capsys, "init", "--from", "both.pth", *START, *words, "-o", out)
        assert made.code == 0, made.err
        assert torch.equal(load_state(Path(out))[0]["head.weight"], state["fc.weight"])
        with torch.no_grad():
            root = "teacher" if words else None
            assert torch.equal(
                load("both.pth", normalise=NONE, root=root)(images), load("one.pth", normalise=NONE)(images)
            )
    wrong = invoke(capsys, "inspect", "both.pth", "--root", "tutor")
    assert wrong.code == 1
    assert "They begin with 'student', 'teacher'" in wrong.err
    invoke(capsys, "init", "--from", "one.pth", *START, "-o", "own.safetensors")
    assert invoke(capsys, "inspect", "own.safetensors", "--root", "x").code == 2


def test_a_recipe_has_a_root_and_a_source_without_head_cannot_match(capsys: Capture) -> None:
    torch.save(under("student.", theirs(1)) | under("teacher.", theirs(2)), "both.pth")
    words = ("quickstart", "teacher.checkpoint=both.pth", "teacher.normalise=none", "teacher.root=teacher")
    done = invoke(capsys, "teacher", *words, "--run-dir", "run")
    assert done.code == 0, done.err
    assert torch.equal(load_state(Path("run/teacher.safetensors"))[0]["head.weight"], theirs(2)["fc.weight"])
    unread = invoke(capsys, "teacher", "quickstart", "teacher.root=teacher", "--run-dir", "other")
    assert (unread.code, "teacher.root is for a foreign file" in unread.err) == (2, True)
    torch.save({key: value for key, value in theirs().items() if not key.startswith("fc.")}, "bare.pth")
    refused = invoke(capsys, "init", "--from", "bare.pth", *START, "--num-classes", "10", "-o", "bare.safetensors")
    assert refused.code == 2
    assert "head: match copies the source's linear layer, which it lacks" in refused.err
    assert not Path("bare.safetensors").exists()


def test_a_linear_layer_beside_starts_the_same_student(capsys: Capture) -> None:
    state = theirs()
    torch.save(state, "plain.pth")
    torch.save(
        {"state_dict": {k if k.startswith("fc.") else f"backbone.{k}": v for k, v in state.items()}}, "beside.pth"
    )
    torch.save({k.replace("fc.", "classifier.2."): v for k, v in state.items()}, "behind.pth")
    torch.save({**state, "last.weight": state["fc.weight"], "last.bias": state["fc.bias"].clone()}, "twice.pth")
    for name in ("plain", "beside", "behind", "twice"):
        made = invoke(capsys, "init", "--from", f"{name}.pth", *START, "-o", f"{name}.safetensors")
        assert made.code == 0, made.err
        assert all(
            torch.equal(value, load_state(Path("plain.safetensors"))[0][key])
            for key, value in load_state(Path(f"{name}.safetensors"))[0].items()
        )
    torch.save({**state, "last.weight": 2 * state["fc.weight"], "last.bias": state["fc.bias"]}, "other.pth")
    assert invoke(capsys, "inspect", "other.pth").code == 1


def test_what_is_left_out_is_said(capsys: Capture) -> None:
    torch.save(theirs() | {"projector.weight": torch.zeros(3, 3)}, "more.pth")
    measured = invoke(capsys, "eval", "--checkpoint", "more.pth", *MEASURE, "--allow-unused")
    assert measured.code == 0, measured.err
    assert "1 tensor is left out, as is allowed: 'projector' (weight)" in measured.err
    torch.save(theirs() | {"layer1.0.relu.alpha": torch.ones(1)}, "blend.pth")
    for command in (
        ("eval", "--checkpoint", "blend.pth", *MEASURE),
        ("init", "--from", "blend.pth", *START, "-o", "x.pth"),
    ):
        refused = invoke(capsys, *command, "--allow-unused")
        assert refused.code == 1
        assert "'layer1.0.relu' (alpha)" in refused.err
        assert refused.err.index("--scheme") < refused.err.index("--allow-unused")
    assert not Path("x.pth").exists()


def test_a_table_of_a_few_rows(capsys: Capture) -> None:
    state = {key.replace("downsample.1", "way.2").replace("downsample.0", "way.1"): v for key, v in theirs().items()}
    torch.save(state, "odd.pth")
    assert invoke(capsys, "inspect", "odd.pth").code == 1
    Path("table.yaml").write_text(
        "title: ours\nrows:\n"
        "  layer{s+1}.{b}.way.1: stages.{s}.{b}.shortcut.conv\n  layer{s+1}.{b}.way.2: stages.{s}.{b}.shortcut.norm\n"
    )
    shown = invoke(capsys, "inspect", "odd.pth", "--scheme", "table.yaml", "--json")
    assert shown.code == 0, shown.err
    assert shown.document["description"] == build_description("resnet8", 10, width=4).describe()
    torch.save(theirs() | {"layer1.0.dead.weight": torch.zeros(4, 4, 3, 3)}, "dead.pth")
    Path("table.yaml").write_text("dropped:\n  layer1.0.dead.{*}: never called\n")
    shown = invoke(capsys, "inspect", "dead.pth", "--scheme", "table.yaml", "--json")
    assert shown.code == 0, shown.err
    assert shown.document["dropped"] == {"layer1.0.dead.weight": "never called"}
    assert not read_scheme(Path("table.yaml")).told


def test_levels_in_every_command(capsys: Capture) -> None:
    acts = ["relu", *(f"layer{stage}.0.relu{i}" for stage in (1, 2, 3) for i in (1, 2))]
    torch.save(theirs() | {f"{act}.thresh": torch.tensor([0.5]) for act in acts}, "qcfs.pth")
    torch.save(theirs(), "plain.pth")
    for command in (("eval", "--checkpoint", "qcfs.pth", *MEASURE), ("inspect", "qcfs.pth")):
        refused = invoke(capsys, *command)
        assert refused.code == 1
        assert "'relu' (thresh)" in refused.err
        assert "--levels L" in refused.err
        done = invoke(capsys, *command, "--levels", "4", "--json")
        assert done.code == 0, done.err
        described = done.document.get("description") or done.document["results"][0]["architecture"]
        assert "QCFS activations of 4 levels, each its own lambda" in described
        none = invoke(
            capsys,
            *command[:-1] if command[0] == "inspect" else command[:1],
            *(("plain.pth",) if command[0] == "inspect" else ("--checkpoint", "plain.pth", *MEASURE)),
            "--levels",
            "4",
        )
        assert (none.code, "levels are given" in none.err) == (1, True)
    made = invoke(capsys, "init", "--from", "qcfs.pth", *START, "--levels", "4", "-o", "a.safetensors")
    assert made.code == 0, made.err
    words = ("quickstart", "teacher.checkpoint=qcfs.pth", "teacher.normalise=none", "--run-dir", "run")
    assert invoke(capsys, "teacher", *words).code == 1
    taught = invoke(capsys, "teacher", *words, "teacher.levels=4")
    assert taught.code == 0, taught.err
    assert load("run/teacher.safetensors").architecture.levels == 4
    assert "teacher: levels are for activation qcfs" in invoke(capsys, "teacher", "quickstart", "teacher.levels=4").err
