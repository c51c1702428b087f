"""The steps in their variants: without a teacher, from another source, with a foreign teacher, beside a baseline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from foreign_networks import save_torchvision, torchvision_state
from tiny_runs import (
    Heard,
    baseline_step,
    contents,
    distill_step,
    eval_step,
    falling,
    history,
    init_step,
    lasting,
    metadata_of,
    open_run,
    teacher_step,
    weights_of,
    write_recipe,
)

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import file_sha256
from idsnn_cli.errors import IdsnnError, MissingInputError, RunConflictError, UsageError
from idsnn_cli.initializer import Plan
from idsnn_cli.models import load
from idsnn_cli.pipeline.run import run_all

NO_TEACHER = ("init.rule=none", "distill.alpha=0")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def with_baselines(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two finished runs, with a plain and with a distilled baseline."""
    found = {}
    for kind in ("plain", "distilled"):
        found[kind] = tmp_path_factory.mktemp(kind)
        run_all(open_run(recipe, found[kind], f"distill.baseline={kind}"))
    return found


def test_no_teacher_is_needed_from_random_weights_without_distillation(
    recipe: Path, with_baselines: dict[str, Path], tmp_path: Path
) -> None:
    results = run_all(open_run(recipe, tmp_path, *NO_TEACHER))
    assert [result.step for result in results] == ["init", "distill", "eval"]
    assert not (tmp_path / "teacher.safetensors").exists()
    assert [row["name"] for row in results[-1].figures["results"]] == ["student"]
    plan = Plan.from_dict(metadata_of(tmp_path / "student.safetensors")["mapping"])
    assert plan.source is None
    assert plan.counts()["copied"] == plan.counts()["interpolated"] == 0
    # That is what the baseline beside another run is.
    assert weights_of(tmp_path / "student.safetensors") == weights_of(with_baselines["plain"] / "baseline.safetensors")


def test_a_distilled_baseline_is_the_student_from_random_weights(
    recipe: Path, with_baselines: dict[str, Path], tmp_path: Path
) -> None:
    run_all(open_run(recipe, tmp_path, "init.rule=none"))
    baseline = weights_of(with_baselines["distilled"] / "baseline.safetensors")
    assert weights_of(tmp_path / "student.safetensors") == baseline
    assert baseline != weights_of(with_baselines["plain"] / "baseline.safetensors")
    assert baseline != weights_of(with_baselines["distilled"] / "student.safetensors")


def test_the_baseline_leaves_teacher_and_student_as_they_are(with_baselines: dict[str, Path]) -> None:
    plain, distilled = (with_baselines[kind] for kind in ("plain", "distilled"))
    for name in ("teacher", "init", "student"):
        assert weights_of(plain / f"{name}.safetensors") == weights_of(distilled / f"{name}.safetensors")
    assert metadata_of(plain / "baseline.safetensors")["kind"] == "baseline"


def test_a_baseline_that_is_not_asked_for_is_not_measured(recipe: Path, tmp_path: Path) -> None:
    run_all(open_run(recipe, tmp_path, "distill.baseline=plain"))
    measured = eval_step(open_run(recipe, tmp_path))
    assert measured.status == "done"
    assert [row["name"] for row in measured.figures["results"]] == ["teacher", "student"]


@pytest.mark.slow
def test_the_source_may_be_another_network_than_the_teacher(recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    (tmp_path / "other").mkdir()
    teacher_step(open_run(recipe, tmp_path / "other", "seed=5"), output=other)
    words = f"init.source={other}"
    run_all(open_run(recipe, tmp_path / "run", words))
    teacher, init, source = (
        load(path) for path in (tmp_path / "run" / "teacher.safetensors", tmp_path / "run" / "init.safetensors", other)
    )
    name = "stages.1.0.conv1.weight"
    assert torch.equal(init.state_dict()[name], source.state_dict()[name])
    assert not torch.equal(init.state_dict()[name], teacher.state_dict()[name])
    inputs = metadata_of(tmp_path / "run" / "student.safetensors")["provenance"]["inputs"]
    assert inputs["teacher"] == file_sha256(tmp_path / "run" / "teacher.safetensors")
    # Without distillation the source is all that is needed.
    results = run_all(open_run(recipe, tmp_path / "alone", words, "distill.alpha=0"))
    assert [result.step for result in results] == ["init", "distill", "eval"]
    # Another content at the same path is another input.
    teacher_step(open_run(recipe, tmp_path / "other", "seed=6", force=True), output=other)
    heard = Heard()
    init_step(open_run(recipe, tmp_path / "run", words, events=heard))
    assert heard.said == ["init: its input (source) was replaced, so it is done anew"]


def test_a_foreign_teacher_is_read_and_teaches(recipe: Path, tmp_path: Path) -> None:
    description = build_description("resnet8", 10, width=4, stem="7x7")
    source = save_torchvision(tmp_path / "foreign.pth", description, seed=3)
    words = [f"teacher.checkpoint={source}", "teacher.normalise=imagenet"]
    results = run_all(open_run(recipe, tmp_path / "run", *words))
    assert [result.status for result in results] == ["done"] * 4
    teacher = tmp_path / "run" / "teacher.safetensors"
    assert not (tmp_path / "run" / "teacher.best.safetensors").exists()
    state = torchvision_state(description, seed=3)
    ours = load(teacher).state_dict()
    assert torch.equal(ours["stages.2.0.shortcut.conv.weight"], state["layer3.0.downsample.0.weight"])
    assert torch.allclose(ours["input.mean"].flatten(), torch.tensor([0.485, 0.456, 0.406]))
    # The student starts with its source's normalisation.
    assert torch.equal(load(tmp_path / "run" / "student.safetensors").state_dict()["input.std"], ours["input.std"])
    found = metadata_of(teacher)
    assert found["provenance"] == {"trained": False, "checkpoint_sha256": file_sha256(source)}
    assert b"foreign.pth" not in teacher.read_bytes()
    assert run_all(open_run(recipe, tmp_path / "run", *words))[0].status == "unchanged"
    with pytest.raises(RunConflictError, match=r"teacher\.normalise: imagenet -> cifar10"):
        teacher_step(open_run(recipe, tmp_path / "run", words[0], "teacher.normalise=cifar10"))
    # The same teacher may be named for one command alone.
    (tmp_path / "other").mkdir()
    direct = open_run(recipe, tmp_path / "other", "teacher.normalise=imagenet")
    distill_step(direct, teacher=source, student=tmp_path / "run" / "init.safetensors")
    assert weights_of(tmp_path / "other" / "student.safetensors") == weights_of(
        tmp_path / "run" / "student.safetensors"
    )


def test_a_teacher_that_replaces_a_trained_one_leaves_nothing_of_it(recipe: Path, tmp_path: Path) -> None:
    source = save_torchvision(tmp_path / "foreign.pth", build_description("resnet8", 10, width=4, stem="7x7"))
    words = [f"teacher.checkpoint={source}", "teacher.normalise=imagenet"]
    teacher_step(open_run(recipe, tmp_path / "run"))
    with pytest.raises(RunConflictError, match=r"\n  teacher\.checkpoint: null -> given\n") as refused:
        teacher_step(open_run(recipe, tmp_path / "run", *words))
    assert "absent" not in str(refused.value)
    teacher_step(open_run(recipe, tmp_path / "run", *words, force=True))
    assert set(contents(tmp_path / "run")) == {"recipe.yaml", "resolved.yaml", "steps.json", "teacher.safetensors"}
    with pytest.raises(RunConflictError, match=r"\n  teacher\.checkpoint: given -> null\n"):
        teacher_step(open_run(recipe, tmp_path / "run"))


def test_a_foreign_teacher_needs_its_normalisation(recipe: Path, tmp_path: Path) -> None:
    source = save_torchvision(tmp_path / "foreign.pth", build_description("resnet8", 10, width=4, stem="7x7"))
    session = open_run(recipe, tmp_path / "run", f"teacher.checkpoint={source}")
    with pytest.raises(UsageError, match=r"teacher\.normalise"):
        run_all(session)
    assert set(contents(tmp_path / "run")) <= {"steps.json"}
    # As the source of an initialisation ImageNet's is taken, and said.
    heard = Heard()
    init_step(open_run(recipe, tmp_path / "init", events=heard), source=source)
    assert any("ImageNet" in said for said in heard.said)


def test_a_teacher_of_other_classes_is_refused_but_may_start_the_student(recipe: Path, tmp_path: Path) -> None:
    source = save_torchvision(tmp_path / "seven.pth", build_description("resnet8", 7, width=4, stem="7x7"))
    normalise = "teacher.normalise=none"
    with pytest.raises(UsageError, match=r"7 classes apart, but digits has 10"):
        teacher_step(open_run(recipe, tmp_path / "run", f"teacher.checkpoint={source}", normalise))
    with pytest.raises(IdsnnError, match="7 classes"):
        init_step(open_run(recipe, tmp_path / "run", normalise, "init.head=copy"), source=source)
    results = run_all(open_run(recipe, tmp_path / "run", f"init.source={source}", normalise, "distill.alpha=0"))
    assert [result.step for result in results] == ["init", "distill", "eval"]
    with pytest.raises(UsageError, match="7 classes"):
        distill_step(open_run(recipe, tmp_path / "run", normalise, force=True), teacher=source)


def test_keep_best_is_what_the_next_step_reads(monkeypatch: pytest.MonkeyPatch, recipe: Path, tmp_path: Path) -> None:
    falling(monkeypatch)
    words = ["teacher.keep=best", "distill.keep=best"]
    teacher_step(open_run(recipe, tmp_path, *words))
    init_step(open_run(recipe, tmp_path, *words))
    distill_step(open_run(recipe, tmp_path, *words))
    monkeypatch.undo()
    best, last = (tmp_path / f"teacher{which}.safetensors" for which in (".best", ""))
    assert metadata_of(best)["metrics"]["epoch"] == 1
    assert metadata_of(last)["metrics"]["epoch"] == 2
    name = "stem.conv.weight"
    assert weights_of(tmp_path / "init.safetensors")[name] == weights_of(best)[name] != weights_of(last)[name]
    inputs = metadata_of(tmp_path / "student.safetensors")["provenance"]["inputs"]
    assert inputs["teacher"] == file_sha256(best)
    rows = eval_step(open_run(recipe, tmp_path, *words)).figures["results"]
    assert [(Path(row["file"]).name, row["epochs"]) for row in rows] == [
        ("teacher.best.safetensors", 1),
        ("student.best.safetensors", 1),
    ]
    # Another choice is another input, and no conflict.
    heard = Heard()
    init_step(open_run(recipe, tmp_path, events=heard))
    assert heard.said == ["init: its input (source) was replaced, so it is done anew"]


def test_a_student_changed_after_init_is_refused_with_the_way_out(recipe: Path, tmp_path: Path) -> None:
    run_all(open_run(recipe, tmp_path))
    before = contents(tmp_path)
    changed = open_run(recipe, tmp_path, "student.timesteps=4", force=True)
    with pytest.raises(UsageError, match=r"T = 2[^T]*\n.*T = 4(.|\n)*idsnn init --force"):
        distill_step(changed)
    assert contents(tmp_path) == before
    init_step(changed)
    assert distill_step(changed).status == "done"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["student.coding=poisson", "student.timesteps=3", "init.reestimate=2"],
        ["student.block=sew", "student.join=iand"],
        ["teacher.stem=3x3", "student.stem=3x3", "student.stem_padding=3", "data.subset=40"],
        ["runtime.precision=fp64", "distill.baseline=plain"],
        ["teacher.shortcut=pad", "student.shortcut=pad", "student.surrogate=sigmoid", "distill.loss_on=steps"],
    ],
    ids=lambda words: words[0],
)
def test_variants_run_through_and_repeat_to_the_byte(recipe: Path, tmp_path: Path, words: list[str]) -> None:
    results = run_all(open_run(recipe, tmp_path / "one", *words))
    assert {result.status for result in results} == {"done"}
    run_all(open_run(recipe, tmp_path / "two", *words))
    assert lasting(tmp_path / "one") == lasting(tmp_path / "two")
    # What was measured at the end of the training is what eval measures in the file.
    row = results[-1].figures["results"][1]
    assert row["top1"] == history(tmp_path / "one", "distill")[-1]["test_top1"]
    assert row["loss"] == pytest.approx(history(tmp_path / "one", "distill")[-1]["test_loss"], rel=1e-6)


def test_the_best_epoch_may_be_chosen_on_validation_images(recipe: Path, tmp_path: Path) -> None:
    words = ["data.validation=20", "data.select=validation", "eval.split=validation"]
    results = run_all(open_run(recipe, tmp_path, *words))
    for step in ("teacher", "distill"):
        assert all({"validation_top1", "validation_loss"} <= line.keys() for line in history(tmp_path, step))
        assert not any("test_top1" in line for line in history(tmp_path, step))
    document = results[-1].figures
    assert (document["split"], document["images"]) == ("validation", 20)
    assert document["results"][1]["top1"] == results[2].figures["top1"]


def test_only_some_epochs_may_be_measured(recipe: Path, tmp_path: Path) -> None:
    teacher_step(open_run(recipe, tmp_path, "teacher.epochs=5", "teacher.evaluate_every=2"))
    assert [line["epoch"] for line in history(tmp_path, "teacher") if "test_top1" in line] == [2, 4, 5]


def test_inputs_that_are_not_read_are_named(recipe: Path, tmp_path: Path) -> None:
    heard = Heard()
    session = open_run(recipe, tmp_path, *NO_TEACHER, events=heard)
    init_step(session, source=tmp_path / "gone.safetensors")
    distill_step(session, teacher=tmp_path / "gone.safetensors")
    # How little the layers of so small a network fire is told, too.
    others = [said for said in heard.said if " layers fire " not in said]
    assert [said for said in others if "is not read" in said] == others
    assert len(others) == 2


def test_a_missing_input_names_the_command_that_makes_it(recipe: Path, tmp_path: Path) -> None:
    session = open_run(recipe, tmp_path)
    with pytest.raises(MissingInputError, match="idsnn teacher"):
        init_step(session)
    with pytest.raises(MissingInputError, match="idsnn init"):
        distill_step(session)
    with pytest.raises(MissingInputError, match="idsnn distill"):
        eval_step(session)
    with pytest.raises(MissingInputError, match="idsnn teacher"):
        baseline_step(open_run(recipe, tmp_path, "distill.baseline=distilled"))
    with pytest.raises(MissingInputError, match=r"teacher\.checkpoint"):
        teacher_step(open_run(recipe, tmp_path, "teacher.checkpoint=gone.pth"))
    assert contents(tmp_path) == {}
