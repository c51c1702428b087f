"""Each rival's recipe trains two epochs of a tiny copy, in which its option changes the student's weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import (
    baseline_step,
    distill_step,
    history,
    init_step,
    metadata_of,
    open_run,
    preview,
    teacher_step,
    weights_of,
)

from idsnn_cli.errors import MissingInputError, RecipeError, UsageError
from idsnn_cli.models import load
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import step
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe, recipe_from_mapping, shipped

pytestmark = pytest.mark.slow

TINY = """
extends: rivals/{name}
data: {{dataset: digits, subset: 80, test_subset: 40, augment: {{crop: 2, flip: false}}}}
teacher: {{arch: resnet8, width: 6, epochs: 2, batch_size: 20}}
student: {{arch: spiking-resnet8, width: 4, timesteps: 2}}
init: {{images: 40}}
distill: {{epochs: 2, batch_size: 20}}
runtime: {{device: cpu}}
"""
# What takes the rival's option back.
WITHOUT = {
    "sew": ["student.block=spiking"],
    "ms": ["student.block=spiking"],
    "dspike": ["student.surrogate=rectangle"],
    "triangle": ["student.surrogate=rectangle"],
    "sigmoid": ["student.surrogate=rectangle"],
    "arctan": ["student.surrogate=rectangle"],
    "per-step-kd": ["distill.loss_on=mean"],
    "tet": ["distill.tet_weight=0"],
    "real-spike": ["student.amplitude=one"],
    "kdsnn": ["distill.features=none"],
    "lasnn": ["distill.features=none"],
}

# The same for those that convert, which train on where they are given epochs.
UNCONVERTED = {
    "weight-normalisation": ["init.convert=none", "init.percentile=99.9"],
    "threshold-balancing": ["init.convert=weight-normalisation"],
    "soft-reset": ["student.reset=hard"],
    "calibration": ["init.calibrate=0"],
    "cos": ["init.convert=weight-normalisation"],
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("teacher")
    teacher_step(tiny("kdsnn", run_dir))
    return run_dir / "teacher.best.safetensors"


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("quantised")
    teacher_step(tiny("cos", run_dir))
    return run_dir / "teacher.best.safetensors"


def tiny(name: str, run_dir: Path, *words: str) -> RunDirectory:
    recipe = run_dir.parent / f"{name}.yaml"
    recipe.write_text(TINY.format(name=name))
    return open_run(recipe, run_dir, *words)


@cache
def control(teacher: Path, run_dir: Path, name: str) -> dict[str, bytes]:
    """The student of ``name``'s recipe without its option; many rivals' are the same one."""
    return trained(teacher, name, run_dir, *WITHOUT[name])


def trained(teacher: Path, name: str, run_dir: Path, *words: str) -> dict[str, bytes]:
    session = tiny(name, run_dir, *words)
    init_step(session, source=teacher)
    distill_step(session, teacher=teacher)
    return weights_of(run_dir / "student.safetensors")


def test_every_rival_that_trains_is_here() -> None:
    names = {recipe.name.removeprefix("rivals/") for recipe in shipped() if recipe.name.startswith("rivals/")}
    assert {*WITHOUT, *UNCONVERTED} == names
    assert all("Cost beside presets/paper:" in r.path.read_text() for r in shipped() if r.name[7:] in WITHOUT)


@pytest.mark.parametrize("name", WITHOUT)
def test_its_option_changes_the_weights(teacher: Path, tmp_path: Path, name: str) -> None:
    found = trained(teacher, name, tmp_path / "with")
    # Without their options the rivals on the neuron are one recipe.
    twin = "dspike" if "student." in WITHOUT[name][0] else name
    plain = control(teacher, teacher.parent / twin, twin)
    assert [line["epoch"] for line in history(tmp_path / "with", "distill")] == [1, 2]
    for tensor in ("head.weight", "stem.conv.weight", "stages.2.0.norm1.weight"):
        assert found[tensor] != plain[tensor]
    # Nothing that only training has is in the checkpoint, and it is a network like any other.
    extra = found.keys() - plain.keys()
    assert all(".amplitude" in tensor for tensor in extra)
    assert bool(extra) == (name == "real-spike")
    model = load(tmp_path / "with" / "student.safetensors")
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 2, 10)


@pytest.mark.parametrize("name", UNCONVERTED)
def test_a_conversion_runs_and_its_option_changes_what_two_epochs_make_of_it(
    teacher: Path, quantised: Path, tmp_path: Path, name: str
) -> None:
    source = quantised if name == "cos" else teacher
    # At two steps a spike of the first leaves a membrane that need not fire in the second, whatever the reset.
    steps = "student.timesteps=8"
    alone = tiny(name, tmp_path / "alone", steps, "distill.epochs=0")
    init_step(alone, source=source)
    assert distill_step(alone).figures["epochs"] == 0
    untrained = weights_of(tmp_path / "alone" / "student.safetensors")
    found, plain = (
        trained(source, name, tmp_path / folder, steps, *words)
        for folder, words in (("with", []), ("without", UNCONVERTED[name]))
    )
    for tensor in ("head.weight", "stem.conv.weight", "stages.2.0.norm1.bias"):
        assert found[tensor] not in (plain[tensor], untrained[tensor])


@pytest.mark.parametrize("join", ["and", "iand"])
def test_sew_joins_by_override(teacher: Path, tmp_path: Path, join: str) -> None:
    trained(teacher, "sew", tmp_path / "run", f"student.join={join}")
    assert metadata_of(tmp_path / "run" / "student.safetensors")["architecture"]["join"] == join


@pytest.mark.parametrize(
    ("name", "option"),
    [("tet", "distill.tet_mean=0.5"), ("kdsnn", "distill.feature_weight=3"), ("lasnn", "distill.feature_weight=3")],
)
def test_the_options_of_an_option_change_the_weights(teacher: Path, tmp_path: Path, name: str, option: str) -> None:
    first, second = (trained(teacher, name, tmp_path / str(i), *words) for i, words in enumerate(([], [option])))
    assert first["head.weight"] != second["head.weight"]


def test_amplitudes_are_learnt_and_seeded_features_repeat(teacher: Path, tmp_path: Path) -> None:
    trained(teacher, "real-spike", tmp_path / "spike")
    state = load_file(tmp_path / "spike" / "student.safetensors")
    learnt = [value for name, value in state.items() if ".amplitude" in name]
    assert len(learnt) == 7
    assert all(float((value - 1).abs().max()) > 1e-4 for value in learnt)
    first, second, other = (
        trained(teacher, "kdsnn", tmp_path / str(i), f"seed={seed}", "data.seed=0") for i, seed in enumerate((0, 0, 1))
    )
    assert first == second
    assert first != other


def test_a_plain_baseline_has_no_teacher_in_its_loss(teacher: Path, tmp_path: Path) -> None:
    """Features are the teacher's, too; a distilled baseline learns from them."""
    weights = []
    for name, words in {
        "plain": ["distill.baseline=plain"],
        "none": ["distill.baseline=plain", "distill.features=none", "distill.alpha=0"],
        "distilled": ["distill.baseline=distilled"],
    }.items():
        session = tiny("kdsnn", tmp_path / name, *words)
        (tmp_path / name / "teacher.best.safetensors").symlink_to(teacher)
        baseline_step(session)
        weights.append(weights_of(tmp_path / name / "baseline.safetensors"))
    # The input's normalisation is the data's in both.
    assert weights[0] == weights[1]
    assert weights[0]["head.weight"] != weights[2]["head.weight"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distill.tet_weight=0.1"], "loss_on steps"),
        (["distill.tet_mean=0.5"], "tet_weight above 0"),
        (["distill.tet_weight=1", "distill.loss_on=steps"], "tet_weight"),
        (["distill.feature_weight=2"], "features mse or attention"),
        (["distill.features=mean"], "features"),
        (["student.amplitude=channel", "student.block=sew"], "cannot be folded"),
        (["student.amplitude=channel", "student.block=ms"], "add membranes, not spikes"),
        (["student.join=and", "student.block=ms"], "join and is for block sew"),
        (["student.threshold=channel", "student.amplitude=channel"], "threshold channel is for blocks spiking and ms"),
        (["student.threshold=layer", "student.block=sew"], "threshold layer is for blocks spiking and ms"),
        (["student.amplitude=folded"], "amplitude"),
        (["teacher.levels=4"], "levels are for activation qcfs"),
        (["claims.table=1"], "table and row go together"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_options_that_mean_nothing_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("presets/paper", words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["student.stem_padding=3"], "32x32, 16x16, 8x8, and the student's 36x36, 18x18, 9x9"),
        (["student.arch=spiking-resnet18", "student.width=2"], "the teacher has 3 stages and the student 4"),
    ],
)
@pytest.mark.parametrize("name", ["kdsnn", "lasnn"])
def test_stages_that_cannot_be_compared_are_told_before_any_work(
    teacher: Path, tmp_path: Path, name: str, words: list[str], message: str
) -> None:
    session = tiny(name, tmp_path / "run", *words)
    with pytest.raises(UsageError, match=message):
        preview(session, ["teacher", "init", "distill"], {})
    init_step(session, source=teacher)
    with pytest.raises(UsageError, match=message):
        distill_step(session, teacher=teacher)
    assert not (tmp_path / "run" / "student.safetensors").exists()


def test_features_alone_need_a_teacher(tmp_path: Path) -> None:
    """And what is missing is told with what would do without it."""
    bare = ("init.rule=none", "init.rescale=none", "init.head=random")
    fixes = {"distill.alpha=0": "set distill.features=none.", "distill.alpha=1": "distill.alpha=0 and distill.feat"}
    for number, (alpha, fix) in enumerate(fixes.items()):
        session = tiny("lasnn", tmp_path / f"run{number}", *bare, alpha)
        assert session.workspace.recipe.needs_teacher
        init_step(session)
        with pytest.raises(MissingInputError, match="the teacher") as caught:
            distill_step(session)
        assert fix in str(caught.value.fix)
        with pytest.raises(MissingInputError, match="the teacher") as caught:
            preview(session, ["distill"], {})
        assert fix in str(caught.value.fix)


def test_a_step_is_recorded_to_depend_on_what_it_reads() -> None:
    data: dict[str, Any] = {"data": {"dataset": "digits"}}
    words = ["student.amplitude=channel", "distill.features=mse"]
    workspace = Workspace(recipe_from_mapping(data, words, origin="a test"), "x")
    assert step("init").settings(workspace)["student"]["amplitude"] == "channel"
    assert step("distill").settings(workspace)["distill"]["features"] == "mse"
    baseline = step("baseline").settings(workspace)
    assert baseline["distill"].keys() & {"alpha", "features"} == set()
