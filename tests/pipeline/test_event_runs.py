"""Whole runs on recordings of events, through the commands: every step, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from invoking import invoke, save_network
from made_recordings import write_bars  # beside the tests of the data
from safetensors.torch import load_file
from tiny_runs import metadata_of

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import load_recipe

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {dataset: events, path: bars, sensor: [16, 16], augment: {crop: 1, flip: false, eventdrop: true}}
teacher: {arch: resnet8, width: 4, epochs: 2, batch_size: 8}
student: {arch: spiking-resnet8, width: 4, timesteps: 3}
init: {head: copy, reestimate: 2}
distill: {epochs: 2, batch_size: 8, baseline: distilled}
runtime: {device: cpu}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_bars(Path("bars"))
    Path("events.yaml").write_text(RECIPE)


def test_a_students_steps_are_the_frames() -> None:
    recipe = load_recipe("./events.yaml").recipe
    assert (recipe.data.frames, recipe.student.coding) == (3, "frames")
    assert load_recipe("./events.yaml", ["student.timesteps=5"]).recipe.data.frames == 5
    for words, said in (
        (["data.frames=4"], "data.frames is 4 and student.timesteps 3"),
        (["student.coding=direct"], "student.coding is direct, and events holds frames"),
        (["student.coding=poisson"], "student.coding is poisson"),
    ):
        with pytest.raises(RecipeError, match=said):
            load_recipe("./events.yaml", words)
    with pytest.raises(RecipeError, match=r"student\.coding is frames, and digits holds images"):
        load_recipe("quickstart", ["student.coding=frames"])
    # A section that is not given is shared by all recipes, and stays what it was.
    plain = load_recipe("quickstart").recipe
    assert (plain.student.coding, plain.data.frames) == ("direct", None)
    Path("short.yaml").write_text("data: {dataset: nmnist}")
    assert load_recipe("./short.yaml").recipe.student.coding == "frames"
    Path("short.yaml").write_text("data: {dataset: digits}")
    assert load_recipe("./short.yaml").recipe.student.coding == "direct"


@pytest.mark.slow
def test_every_step_works_on_recordings(capsys: Capture) -> None:
    plan = invoke(capsys, "run", "events.yaml", "--dry-run")
    assert plan.code == 0, plan.err
    assert "events, 24 train, 12 test images" in plan.out
    assert "3 frames each" in " ".join(plan.out.split())
    assert "a frame at each step" in " ".join(plan.out.split())
    found = invoke(capsys, "run", "events.yaml", "--run-dir", "run")
    assert found.code == 0, found.err
    for name in ("teacher", "init", "student", "baseline"):
        path = Path("run", f"{name}.safetensors")
        assert metadata_of(path)["architecture"]["in_channels"] == 2
        assert load_file(path)["input.mean"].flatten().tolist() == [0, 0]
    student = load("run/student.safetensors")
    assert student.architecture.coding == "frames"
    assert student(torch.zeros(2, 3, 2, 16, 16)).shape == (3, 2, 2)
    again = invoke(capsys, "run", "events.yaml", "--run-dir", "run", "--json")
    assert {step["status"] for step in again.document["steps"]} == {"unchanged"}
    for words in (["inspect", "run/student.safetensors"], ["report", "run"], ["run", "run/resolved.yaml", "--dry-run"]):
        found = invoke(capsys, *words)
        assert found.code == 0, found.err
    measured = ("eval", "--checkpoint", "run/student.safetensors", "--data", "events:bars", "data.sensor=[16,16]")
    found = invoke(capsys, *measured, "--full", "--report", "page", "--json")
    assert found.code == 0, found.err
    row, own = found.document["results"][0], again.document["summary"]
    assert row["beyond"] is None
    assert row["robustness"] is None
    assert row["energy"]["layers"][0]["reads"] == "values"
    assert row["top1"] == next(each["top1"] for each in own if each["name"] == "student")
    found = invoke(capsys, *measured, "--timesteps", "6")
    assert found.code == 2
    assert "recordings have no more" in " ".join(found.err.split())


@pytest.mark.slow
def test_a_student_needs_no_teacher_and_may_start_from_an_image_network(capsys: Capture) -> None:
    source = build_description("resnet8", 4, width=4)
    save_network(Path("images.safetensors"), "teacher", source)
    alone = ("distill.alpha=0", "distill.baseline=none")
    start = ("init.source=images.safetensors", "init.head=random", "init.input=mean")
    found = invoke(capsys, "run", "events.yaml", *alone, *start, "--run-dir", "run")
    assert found.code == 0, found.err
    assert not Path("run/teacher.safetensors").exists()
    assert "the student normalises as measured on the data's" in " ".join(found.err.split())
    theirs, ours = load_file("images.safetensors"), load_file("run/init.safetensors")
    summed = theirs["stem.conv.weight"].sum(1, keepdim=True) / 2
    assert torch.allclose(ours["stem.conv.weight"], summed.expand(-1, 2, -1, -1), atol=1e-6)
    assert ours["input.mean"].flatten().tolist() == [0, 0]
    assert torch.equal(ours["input.std"], load_file("run/student.safetensors")["input.std"])
    assert float(ours["input.std"].max()) < 0.1  # a few events of the 255 that a pixel holds
    assert "data" in metadata_of(Path("run/init.safetensors"))
    standalone = ("init", "--from", "images.safetensors", "--arch", "spiking-resnet8", "student.width=4")
    data = ("data.dataset=events", "data.path=bars", "data.sensor=[16,16]", "student.timesteps=3", "--input", "mean")
    found = invoke(capsys, *standalone, *data, "--num-classes", "2", "-o", "start.safetensors")
    assert found.code == 0, found.err
    assert load("start.safetensors").architecture.coding == "frames"
    assert torch.equal(load_file("start.safetensors")["stem.conv.weight"], ours["stem.conv.weight"])
    found = invoke(capsys, "run", "events.yaml", *alone, "init.rule=none", "--run-dir", "random")
    assert found.code == 0, found.err
    found = invoke(capsys, "run", "events.yaml", "pretrain.epochs=1", "--run-dir", "pretrained", "distill.epochs=1")
    assert found.code == 0, found.err


@pytest.mark.slow
def test_images_and_recordings_are_not_mixed(capsys: Capture) -> None:
    grey = build_description("spiking-resnet8", 2, width=4, timesteps=3).changed(in_channels=2)
    save_network(Path("direct.safetensors"), "student", grey)
    save_network(Path("frames.safetensors"), "student", grey.changed(coding="frames"))
    save_network(Path("longer.safetensors"), "student", grey.changed(coding="frames", timesteps=5))
    save_network(Path("colour.safetensors"), "teacher", build_description("resnet8", 2, width=4))
    for name, words in (
        ("direct", "direct.safetensors reads one image, and events gives recordings of 3 frames"),
        ("longer", "longer.safetensors reads 5 frames, and events gives recordings of 3 frames"),
        ("colour", "reads images of 3 channels, and those of events have 2"),
    ):
        found = invoke(capsys, "eval", "events.yaml", "--student", f"{name}.safetensors", "--run-dir", "none")
        assert found.code == 2, found.err
        assert words in " ".join(found.err.split())
    found = invoke(capsys, "eval", "--checkpoint", "frames.safetensors", "--data", "digits")
    assert found.code == 2
    two = build_description("resnet8", 2, width=4).changed(in_channels=2)
    save_network(Path("two.safetensors"), "teacher", two)
    found = invoke(capsys, "convert", "two.safetensors", "--data", "events:bars", "data.sensor=[16,16]", "--dry-run")
    assert found.code == 2
    assert "no rate is an activation" in " ".join(found.err.split()), found.err
    torch.save(load_file("frames.safetensors"), "theirs.pth")
    spiking = ("--kind", "spiking", "student.timesteps=3", "student.v_threshold=0.5", "student.decay=0.25")
    asked = ("eval", "--checkpoint", "theirs.pth", *spiking, "--data", "events:bars", "data.sensor=[16,16]")
    found = invoke(capsys, *asked, "student.coding=frames")
    assert found.code == 0, found.err
    assert "theirs.pth" in found.out
    found = invoke(capsys, *asked)
    assert found.code == 2
    assert "theirs.pth reads one image, and events gives recordings of 3 frames" in " ".join(found.err.split())
    found = invoke(capsys, "teacher", "events.yaml", "teacher.checkpoint=colour.safetensors", "--run-dir", "t")
    assert found.code == 2
