"""``normalise: auto`` and the bottleneck's stride, through the commands: what is chosen, said, kept and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from foreign_networks import torchvision_name
from invoking import invoke
from tiny_runs import Heard, metadata_of, open_run, teacher_step, write_recipe

from idsnn_cli import load
from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.data.channels import CONSTANTS
from idsnn_cli.errors import UsageError
from idsnn_cli.models import build
from idsnn_cli.pipeline.standalone import Request, measuring_workspace

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
PLAIN = build_description("resnet8", 10, width=4)
BOTTLENECKS = build_description("resnet50", 10, width=4).changed(depths=(1, 1, 1, 1))
AUTO = ("--data", "digits", "--normalise", "auto")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(name: str, normalisation: str | None, architecture: Architecture = PLAIN, brightness: float = 1) -> str:
    """A foreign file whose statistics are those of the digits under ``normalisation``; None: of a new network."""
    model = build(architecture, seed=0)
    if normalisation is not None:
        session = open_run(write_recipe(Path()), Path("other"), "data.subset=null")
        model.set_normalisation(*CONSTANTS[normalisation])
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(session.workspace.data.train.images.float() / 255 * brightness)
    state = model.state_dict()
    torch.save({torchvision_name(key): value for key, value in state.items() if not key.startswith("input.")}, name)
    return name


def test_eval_finds_it_says_it_and_keeps_it(capsys: Capture) -> None:
    name = save("theirs.pth", "half")
    found = invoke(capsys, "eval", "--checkpoint", name, *AUTO, "--json")
    assert found.code == 0, found.err
    assert "normalised as half: divergence" in found.err
    assert found.err.count("normalised as") == 1
    (result,) = found.document["results"]
    assert result["normalisation"]["name"] == "half"
    named = invoke(capsys, "eval", "--checkpoint", name, "--data", "digits", "--normalise", "half", "--json")
    (other,) = named.document["results"]
    assert (other["top1"], other["loss"]) == (result["top1"], result["loss"])
    assert "normalisation" not in other


def test_what_is_not_clear_is_asked(capsys: Capture) -> None:
    dark = save("dark.pth", "half", brightness=0.6)
    for words in (["eval", "--checkpoint", dark, *AUTO], ["teacher", "tiny.yaml", f"teacher.checkpoint={dark}"]):
        words += ["teacher.normalise=auto"] if words[0] == "teacher" else []
        found = invoke(capsys, *words, "--json")
        assert found.code == 2
        error = found.document["error"]
        assert error["type"] == "UsageError"
        assert "does not show clearly" in error["message"]
        assert all(name in error["message"] for name in CONSTANTS)
        assert not Path("runs").exists()
    new = invoke(capsys, "eval", "--checkpoint", save("new.pth", None), *AUTO)
    assert new.code == 1
    assert "never trained" in new.err


def test_a_teacher_keeps_what_was_found(tmp_path: Path) -> None:
    recipe = write_recipe(Path())
    words = [f"teacher.checkpoint={save('theirs.pth', 'cifar100')}", "teacher.normalise=auto", "data.subset=null"]
    heard = Heard()
    session = open_run(recipe, tmp_path / "run", *words, events=heard)
    teacher_step(session)
    assert sum("normalised as cifar100" in said for said in heard.said) == 1
    teacher = tmp_path / "run" / "teacher.safetensors"
    kept = metadata_of(teacher)["provenance"]["normalisation"]
    assert kept["name"] == "cifar100"
    assert kept["divergences"]["cifar100"] == min(kept["divergences"].values())
    mean = load(teacher).input.mean.flatten()
    assert torch.equal(mean, torch.tensor(CONSTANTS["cifar100"][0]))
    assert teacher_step(open_run(recipe, tmp_path / "run", *words)).status == "unchanged"
    assert session.workspace.settle_normalisation(Path("theirs.pth")).provenance() == {"normalisation": kept}


def test_what_carries_its_own_needs_no_looking(capsys: Capture, tmp_path: Path) -> None:
    recipe = write_recipe(Path())
    teacher_step(open_run(recipe, tmp_path / "run"))
    ours = str(tmp_path / "run" / "teacher.safetensors")
    found = invoke(capsys, "eval", "--checkpoint", ours, *AUTO)
    assert found.code == 0, found.err
    assert "normalised as" not in found.err
    # What was asked in vain is not in its recipe either, which is the one that it carries.
    request = Request(Path(ours), "--checkpoint", [], {"normalise": "auto"}, Heard())
    assert measuring_workspace(request, "digits", []).recipe.teacher.normalise is None
    torch.save(build(PLAIN, seed=0).state_dict(), "with-buffers.pth")
    assert invoke(capsys, "eval", "--checkpoint", "with-buffers.pth", *AUTO, "--kind", "ann").code == 0
    session = open_run(recipe, tmp_path / "run", "teacher.normalise=auto")
    assert session.workspace.settle_normalisation(Path(ours)).values is None


def test_without_images_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    session = open_run(write_recipe(Path()), tmp_path / "run", "teacher.normalise=auto")
    session.workspace.data_given = False
    with pytest.raises(UsageError, match="needs training images"):
        session.workspace.settle_normalisation(Path(save("theirs.pth", "half")))


def test_the_stride_of_bottlenecks_is_said_or_given(capsys: Capture) -> None:
    words = ["eval", "--checkpoint", save("bottlenecks.pth", "none", BOTTLENECKS), "--data", "digits"]
    words += ["--normalise", "none", "--json"]
    losses = {}
    for stride in (None, "3x3", "1x1"):
        found = invoke(capsys, *words, *([] if stride is None else ["--bottleneck-stride", stride]))
        assert found.code == 0, found.err
        assert ("taken to stride in the 3x3" in found.err) is (stride is None)
        (result,) = found.document["results"]
        losses[stride] = result["loss"]
    assert losses[None] == losses["3x3"] != losses["1x1"]
    wrong = invoke(capsys, *words, "--bottleneck-stride", "2x2")
    assert (wrong.code, wrong.document["error"]["type"]) == (2, "UsageError")
    basic = ["eval", "--checkpoint", save("basic.pth", "none"), "--data", "digits", "--normalise", "none"]
    refused = invoke(capsys, *basic, "--bottleneck-stride", "3x3")
    assert refused.code == 2
    assert "has no bottlenecks" in refused.err


def test_a_recipe_gives_the_stride_of_its_teacher(tmp_path: Path) -> None:
    recipe = write_recipe(Path())
    words = [f"teacher.checkpoint={save('b.pth', 'none', BOTTLENECKS)}", "teacher.normalise=none"]
    for stride in ("3x3", "1x1"):
        run = tmp_path / stride
        teacher_step(open_run(recipe, run, *words, f"teacher.bottleneck_stride={stride}"))
        assert load(run / "teacher.safetensors").architecture.traits().get("bottleneck_stride", "3x3") == stride


@pytest.mark.parametrize("override", ["teacher.normalise=imagenet", "teacher.weights=raw", "teacher.allow_unused=true"])
def test_keys_about_a_foreign_file_need_one(capsys: Capture, tmp_path: Path, override: str) -> None:
    recipe = write_recipe(Path())
    run = tmp_path / "run"
    for step in ("run", "teacher"):
        found = invoke(capsys, step, recipe, "--run-dir", run, override)
        assert found.code == 2
        assert override.partition("=")[0] in found.err
        assert "names none" in found.err
        assert not run.exists()
    teacher_step(open_run(recipe, run))
    ours = f"teacher.checkpoint={run / 'teacher.safetensors'}"
    refused = invoke(capsys, "teacher", recipe, "--run-dir", tmp_path / "next", ours, override)
    assert refused.code == 2
    assert "carries all that itself" in refused.err


def test_init_finds_it_from_named_images(capsys: Capture) -> None:
    words = ["init", "--from", save("theirs.pth", "half"), "--arch", "spiking-resnet8", "student.width=4"]
    words += ["-o", "a.safetensors", "--normalise", "auto"]
    without = invoke(capsys, *words)
    assert without.code == 2
    assert "data.dataset=NAME" in without.err
    assert not Path("a.safetensors").exists()
    found = invoke(capsys, *words, "data.dataset=digits")
    assert found.code == 0, found.err
    assert found.err.count("normalised as half") == 1
    assert "ImageNet" not in found.err
    assert metadata_of(Path("a.safetensors"))["provenance"]["normalisation"]["name"] == "half"
    assert load("a.safetensors").input.std.flatten().tolist() == [0.5] * 3


def test_a_recipes_source_is_looked_at_before_the_run(capsys: Capture, tmp_path: Path) -> None:
    recipe, run = write_recipe(Path()), tmp_path / "run"
    words = ["student.stem=3x3", "teacher.normalise=auto", "data.subset=null", "distill.alpha=0"]
    dark = invoke(
        capsys, "run", recipe, "--run-dir", run, *words, f"init.source={save('dark.pth', 'half', brightness=0.6)}"
    )
    assert (dark.code, run.exists()) == (2, False)
    found = invoke(capsys, "run", recipe, "--run-dir", run, *words, f"init.source={save('theirs.pth', 'half')}")
    assert found.code == 0, found.err
    assert metadata_of(run / "init.safetensors")["provenance"]["normalisation"]["name"] == "half"
