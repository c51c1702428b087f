"""The files of a run directory: one that is removed, somebody's own, named elsewhere, or read by the step itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from invoking import invoke
from tiny_runs import (
    Heard,
    contents,
    distill_step,
    falling,
    init_step,
    lasting,
    open_run,
    preview,
    teacher_step,
    weights_of,
    write_recipe,
)

from idsnn_cli.errors import CheckpointError, MappingError, MissingInputError, RunConflictError, UsageError, WriteError
from idsnn_cli.pipeline.run import run_all

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test changes."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    run_all(open_run(recipe, run_dir))
    return run_dir


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["teacher.safetensors", "init.safetensors", "mapping.json", "student.safetensors"])
def test_a_removed_output_is_written_again(recipe: Path, copy: Path, finished: Path, name: str) -> None:
    (copy / name).unlink()
    heard = Heard()
    results = run_all(open_run(recipe, copy, events=heard))
    assert [result.status for result in results].count("unchanged") == 3
    assert lasting(copy) == lasting(finished)
    assert heard.epochs == []
    assert any(name in said and "written again" in said for said in heard.said)


def test_a_removed_measurement_is_made_again(recipe: Path, copy: Path) -> None:
    before = json.loads((copy / "eval.json").read_text())
    (copy / "eval.json").unlink()
    assert [result.status for result in run_all(open_run(recipe, copy))] == ["unchanged"] * 3 + ["done"]
    after = json.loads((copy / "eval.json").read_text())
    for document in (before, after):
        for row in document["results"]:
            del row["images_per_second"], row["file"]
    assert before == after


def test_a_removed_best_is_made_again_where_the_last_epoch_was_best(
    monkeypatch: pytest.MonkeyPatch, recipe: Path, tmp_path: Path
) -> None:
    falling(monkeypatch, rising=True)
    teacher_step(open_run(recipe, tmp_path, "teacher.keep=best"))
    best = tmp_path / "teacher.best.safetensors"
    before = best.read_bytes()
    best.unlink()
    assert teacher_step(open_run(recipe, tmp_path, "teacher.keep=best")).status == "done"
    assert best.read_bytes() == before
    assert teacher_step(open_run(recipe, tmp_path, "teacher.keep=best")).status == "unchanged"


def test_a_removed_best_that_is_needed_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, recipe: Path, tmp_path: Path
) -> None:
    falling(monkeypatch)
    keep = "teacher.keep=best"
    teacher_step(open_run(recipe, tmp_path, keep))
    best = tmp_path / "teacher.best.safetensors"
    before = best.read_bytes()
    assert before != (tmp_path / "teacher.safetensors").read_bytes()
    best.unlink()
    # Nobody reads it with keep: last.
    assert teacher_step(open_run(recipe, tmp_path)).status == "unchanged"
    for _ in range(2):
        with pytest.raises(MissingInputError, match="--force"):
            teacher_step(open_run(recipe, tmp_path, keep))
    falling(monkeypatch)
    teacher_step(open_run(recipe, tmp_path, keep, force=True))
    assert best.read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["teacher.safetensors", "teacher.best.safetensors", "init.safetensors", "mapping.json", "student.safetensors"],
)
def test_a_file_that_the_run_did_not_write_is_not_replaced(recipe: Path, copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).write_bytes(b"somebody's own")
    with pytest.raises(RunConflictError, match=name):
        preview(open_run(recipe, copy), ["teacher", "init", "distill"], {})
    with pytest.raises(RunConflictError, match=name):
        run_all(open_run(recipe, copy))
    assert (copy / name).read_bytes() == b"somebody's own"
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / name).write_bytes(b"somebody's own")
    with pytest.raises(RunConflictError, match=name):
        run_all(open_run(recipe, fresh))
    assert (fresh / name).read_bytes() == b"somebody's own"
    run_all(open_run(recipe, fresh, force=True))


@pytest.mark.parametrize("step", ["teacher", "init", "distill"])
def test_output_goes_to_a_named_file_but_never_over_another(
    capsys: Capture, recipe: Path, copy: Path, tmp_path: Path, step: str
) -> None:
    name = {"distill": "student"}.get(step, step)
    target = tmp_path / "mine.safetensors"
    assert invoke(capsys, step, recipe, "--run-dir", copy, "-o", target).code == 0
    assert target.read_bytes() == (copy / f"{name}.safetensors").read_bytes()
    target.write_bytes(b"precious")
    refused = invoke(capsys, step, recipe, "--run-dir", copy, "-o", target, "--json")
    assert (refused.code, refused.document["error"]["type"]) == (1, "RunConflictError")
    assert target.read_bytes() == b"precious"
    assert invoke(capsys, step, recipe, "--run-dir", copy, "-o", target, "--force").code == 0
    assert weights_of(target) == weights_of(copy / f"{name}.safetensors")


def test_an_impossible_output_is_found_before_the_training(recipe: Path, copy: Path, tmp_path: Path) -> None:
    heard = Heard()
    session = open_run(recipe, copy, force=True, events=heard)
    for target in (tmp_path / "gone" / "x.safetensors", tmp_path):
        for step in (teacher_step, init_step, distill_step):
            with pytest.raises(WriteError):
                step(session, output=target)
    assert heard.epochs == []


def test_a_step_does_not_replace_what_it_reads(recipe: Path, copy: Path) -> None:
    before = contents(copy)
    session = open_run(recipe, copy, force=True)
    for name in ("student.safetensors", "student.best.safetensors"):
        with pytest.raises(UsageError, match="read and replaced"):
            distill_step(session, student=copy / name)
    with pytest.raises(UsageError, match="read and replaced"):
        distill_step(session, output=copy / "teacher.safetensors")
    with pytest.raises(UsageError, match="read and replaced"):
        init_step(session, output=copy / "teacher.safetensors")
    own = f"teacher.checkpoint={copy / 'teacher.safetensors'}"
    with pytest.raises(UsageError, match="read and replaced"):
        teacher_step(open_run(recipe, copy, own, force=True))
    assert contents(copy) == before


def test_a_teacher_that_cannot_be_read_does_not_cost_the_student(recipe: Path, copy: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.pth"
    page.write_text("<!DOCTYPE html><html></html>")
    before = contents(copy)
    with pytest.raises(CheckpointError):
        distill_step(open_run(recipe, copy, force=True), teacher=page)
    assert contents(copy) == before


def test_a_failed_init_leaves_the_old_one_and_may_be_corrected(recipe: Path, copy: Path) -> None:
    before = contents(copy)
    with pytest.raises(MappingError, match="blocks lists"):
        init_step(open_run(recipe, copy, "init.blocks=[[0]]", force=True))
    after = contents(copy)
    del before["steps.json"], after["steps.json"]
    assert after == before
    assert init_step(open_run(recipe, copy)).status == "done"
    assert distill_step(open_run(recipe, copy)).status == "unchanged"
