"""Conversion without training as whole runs: each option changes the student, and 0 epochs are a run like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from invoking import invoke
from safetensors.torch import load_file
from tiny_runs import (
    Heard,
    distill_step,
    file_of,
    init_step,
    metadata_of,
    open_run,
    preview,
    teacher_step,
    weights_of,
    write_recipe,
)

from idsnn_cli.errors import IdsnnError, RecipeError, RunConflictError
from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.run import run_all, summary
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.report.runs.side_by_side import describe_runs

pytestmark = pytest.mark.slow

RECIPE = """
data: {dataset: digits, subset: 80, test_subset: 40, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 1, batch_size: 20}
student:
  {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 3, v_threshold: 1, decay: 1, reset: soft, start: half}
init: {head: copy, images: 30, convert: weight-normalisation}
distill: {epochs: 0, batch_size: 20, keep: best}
runtime: {device: cpu}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes"), RECIPE)


@pytest.fixture(scope="module")
def teachers(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher of each activation, trained once."""
    found = {}
    for activation in ("relu", "qcfs"):
        session = open_run(recipe, tmp_path_factory.mktemp(activation), f"teacher.activation={activation}")
        teacher_step(session)
        found[activation] = file_of(session, "teacher")
    return found


def converted(recipe: Path, teachers: dict[str, Path], folder: Path, *words: str, of: str = "relu") -> RunDirectory:
    session = open_run(recipe, folder, f"init.source={teachers[of]}", *words)
    init_step(session)
    return session


def start(session: RunDirectory) -> dict[str, bytes]:
    return weights_of(file_of(session, "init"))


@pytest.mark.parametrize(
    "word",
    [
        "init.convert=none",
        "init.convert=threshold-balancing",
        "init.percentile=90",
        "init.calibrate=2",
        "init.reestimate=2",
    ],
)
def test_each_option_changes_the_students_weights(
    recipe: Path, teachers: dict[str, Path], tmp_path: Path, word: str
) -> None:
    plain = start(converted(recipe, teachers, tmp_path / "plain"))
    assert start(converted(recipe, teachers, tmp_path / "other", word)) != plain


def test_learnt_lambdas_and_levels_change_them_too(recipe: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    plain = converted(recipe, teachers, tmp_path / "plain", of="qcfs")
    learnt = converted(recipe, teachers, tmp_path / "learnt", "init.convert=learnt-thresholds", of="qcfs")
    assert start(learnt) != start(plain)
    assert weights_of(teachers["qcfs"]) != weights_of(teachers["relu"])
    mapping = json.loads((tmp_path / "learnt" / "mapping.json").read_text())
    # One epoch moves the lambdas a little from the 8 where they start.
    assert all(7 < value < 9 and value != 8 for value in mapping["lambdas"].values())


def test_with_source_rates_each_tensor_takes_the_step_that_it_would_have_taken_unscaled(
    recipe: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    """The first step of SGD goes along the gradient, so it is c^2 times as long where a tensor is c times as large."""
    training = "distill.alpha=0 distill.epochs=1 distill.batch_size=80 distill.weight_decay=0 distill.lr=0.001"
    words = ["init.convert=learnt-thresholds", "distill.keep=last", "runtime.precision=fp64", *training.split()]
    steps = {}
    for on in ("false", "true"):
        session = converted(recipe, teachers, tmp_path / on, *words, f"distill.source_rates={on}", of="qcfs")
        distill_step(session)
        first, last = (load_file(file_of(session, step)) for step in ("init", "distill"))
        steps[on] = {name: last[name].double() - value.double() for name, value in first.items()}
    scaled = json.loads((tmp_path / "true" / "mapping.json").read_text())["tensors"]
    factors = {entry["target"]: entry.get("scale") or 1.0 for entry in scaled}
    assert sum(factor > 2 for factor in factors.values()) > 5
    assert sum(factor < 0.5 for factor in factors.values()) > 5
    learnt = [name for name in factors if name.endswith((".weight", ".bias"))]
    for name in learnt:
        torch.testing.assert_close(steps["true"][name], steps["false"][name] * factors[name] ** 2, rtol=1e-3, atol=2e-7)
    assert any(bool(steps["true"][name].any()) for name in learnt)


def test_source_rates_without_a_conversion_are_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="source_rates is for a converted start"):
        open_run(recipe, tmp_path, "init.convert=none", "distill.source_rates=true")


@pytest.mark.parametrize("words", [["student.reset=hard"], ["student.start=zero"], ["student.decay=0.5"]], ids=str)
def test_the_neurons_options_change_what_the_student_says(
    recipe: Path, teachers: dict[str, Path], tmp_path: Path, words: list[str]
) -> None:
    losses = []
    for folder, more in (("plain", []), ("other", words)):
        session = converted(recipe, teachers, tmp_path / folder, *more)
        distill_step(session)
        losses.append(metadata_of(file_of(session, "distill"))["metrics"]["test_loss"])
    assert losses[0] != losses[1]
    described = metadata_of(tmp_path / "plain" / "student.safetensors")["architecture"]["neuron"]
    assert (described["reset"], described["start"]) == ("soft", "half")


def test_the_plan_says_every_scale_and_what_was_calibrated(
    recipe: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    converted(recipe, teachers, tmp_path, "init.calibrate=2")
    mapping = json.loads((tmp_path / "mapping.json").read_text())
    lambdas = mapping["lambdas"]
    by_name = {entry["target"]: entry for entry in mapping["tensors"]}
    assert by_name["stages.1.0.conv1.weight"]["scale"] == lambdas["stages.1.0.inner0"]
    assert by_name["stages.1.0.norm1.weight"]["scale"] == pytest.approx(1 / lambdas["stages.1"])
    assert by_name["stages.1.0.shortcut.conv.weight"]["scale"] == lambdas["stages.0"]
    assert by_name["head.weight"]["scale"] == lambdas["stages.2"]
    assert by_name["stem.norm.bias"]["reason"] == "calibrated on 2 training batches"
    assert "reason" not in by_name["stem.norm.weight"]
    assert mapping["provenance"]["calibrated_batches"] == 2


@pytest.mark.parametrize("rule", ["learnt-thresholds", "weight-normalisation"])
def test_a_conversion_knows_the_file_that_it_was_made_from(
    capsys: pytest.CaptureFixture[str], recipe: Path, teachers: dict[str, Path], tmp_path: Path, rule: str
) -> None:
    """The learnt lambdas are part of the source, and what they scale has not moved."""
    session = converted(recipe, teachers, tmp_path, f"init.convert={rule}", of="qcfs")
    found = invoke(capsys, "inspect", str(file_of(session, "init")), "--source", str(teachers["qcfs"]), "--json")
    assert found.code == 0, found.err
    changes = [layer["change"] for layer in found.document["mapping"]["layers"]]
    assert 0 <= max(change for change in changes if change is not None) < 1e-6


@pytest.mark.parametrize("words", [(), ("teacher.activation=qcfs", "init.convert=learnt-thresholds")], ids=str)
def test_a_run_of_no_epochs(recipe: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    session, heard = open_run(recipe, tmp_path, *words), Heard()
    session.workspace.events = heard
    results = run_all(session)
    assert weights_of(tmp_path / "student.safetensors") == weights_of(tmp_path / "init.safetensors")
    assert not (tmp_path / "student.best.safetensors").exists()
    assert heard.epochs == [("teacher", 1)]
    rows = {row.name: row.to_dict() for row in summary(results)}
    assert rows["student"]["epochs"] == 0
    assert rows["student"]["train_seconds"] == 0
    assert metadata_of(tmp_path / "student.safetensors")["kind"] == "student"
    assert {result.status for result in run_all(open_run(recipe, tmp_path, *words))} == {"unchanged"}
    found = describe_runs(gather([tmp_path]), 0.0)
    (arm,) = found["arms"]
    assert (arm["complete"], arm["planned"]) == (1, 0)
    assert arm["last"]["mean"] == arm["best"]["mean"] == arm["measured"]["mean"] == rows["student"]["top1"]
    # It is there after no epoch, and costs what its teacher did.
    reach = arm["reach"]
    assert (reach["reached"], reach["epoch"], reach["macs"], reach["seconds"]) == (1, 0, 0, 0)
    assert reach["macs_with_teacher"] == arm["teacher"]["macs"] > 0
    assert not any("no finished epoch" in note for note in found["notes"])


def test_a_preview_counts_what_is_scaled_and_promises_no_best_epoch(
    recipe: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    session = converted(recipe, teachers, tmp_path)
    plan = preview(session, ["init", "distill"], {})
    assert plan["mapping"] == json.loads(json.dumps(init_step(session).figures["values"]))
    assert plan["mapping"]["interpolated"] > plan["mapping"]["copied"]
    assert [len(step["writes"]) for step in plan["steps"]] == [2, 1]


def test_no_teacher_is_needed_where_nothing_reads_it(recipe: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    """alpha is the default 0.3, but nothing is distilled."""
    session = open_run(recipe, tmp_path, f"init.source={teachers['relu']}")
    assert vars(session.workspace.recipe.distill)["alpha"] > 0
    assert not session.workspace.recipe.needs_teacher
    assert [result.step for result in run_all(session)] == ["init", "distill", "eval"]


def test_schedules_say_nothing_about_no_epochs(recipe: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    for number, words in enumerate((["distill.warmup_epochs=2"], ["distill.schedule=step", "distill.step_every=60"])):
        session = converted(recipe, teachers, tmp_path / str(number), *words)
        assert distill_step(session).figures["epochs"] == 0


def test_a_converted_student_can_be_trained_further(recipe: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    session = converted(recipe, teachers, tmp_path)
    distill_step(session)
    more = ("distill.epochs=1", "distill.alpha=0", f"init.source={teachers['relu']}")
    with pytest.raises(RunConflictError, match=r"distill\.epochs"):
        distill_step(open_run(recipe, tmp_path, *more))
    trained = open_run(recipe, tmp_path, *more, force=True)
    assert distill_step(trained).figures["epochs"] == 1
    assert weights_of(file_of(trained, "distill")) != start(trained)
    again = open_run(recipe, tmp_path, f"init.source={teachers['relu']}", force=True)
    distill_step(again)
    assert weights_of(file_of(again, "distill")) == start(again)
    assert not (tmp_path / "student.best.safetensors").exists()


@pytest.mark.parametrize("alpha", [0, 0.5])
def test_epochs_may_grow_from_0_where_the_schedule_allows(
    recipe: Path, teachers: dict[str, Path], tmp_path: Path, alpha: float
) -> None:
    words = [f"init.source={teachers['relu']}", "distill.schedule=constant", f"distill.alpha={alpha}"]
    session = converted(recipe, teachers, tmp_path, *words)
    distill_step(session)
    longer = open_run(recipe, tmp_path, *words, "distill.epochs=1")
    assert distill_step(longer, teacher=teachers["relu"]).figures["epochs"] == 1
    assert weights_of(file_of(longer, "distill")) != start(longer)


@pytest.mark.parametrize("words", [["distill.baseline=plain"], ["distill.baseline=distilled"]], ids=str)
def test_a_baseline_without_training_is_refused(recipe: Path, tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(RecipeError, match="use baseline none"):
        open_run(recipe, tmp_path, *words)


def test_a_neuron_of_another_reset_is_another_setting(recipe: Path, tmp_path: Path) -> None:
    words = ("init.convert=none", "student.reset=hard", "student.start=zero")
    run_all(open_run(recipe, tmp_path, *words))
    with pytest.raises(IdsnnError, match=r"student\.reset"):
        init_step(open_run(recipe, tmp_path, "init.convert=none", "student.start=zero"))
