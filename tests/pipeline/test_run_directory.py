"""A run directory: what is in it, what a second command with the same or other settings leaves, redoes or refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from invoking import invoke
from safetensors.torch import load_file
from tiny_runs import (
    STEPS,
    Heard,
    contents,
    distill_step,
    history,
    init_step,
    lasting,
    open_run,
    steps_of_run,
    teacher_step,
    weights_of,
    write_recipe,
)

from idsnn_cli.errors import (
    RunConflictError,
    RunLockedError,
)
from idsnn_cli.pipeline.run import run_all

Capture = pytest.CaptureFixture[str]
FILES = {
    "recipe.yaml",
    "resolved.yaml",
    "steps.json",
    "teacher.safetensors",
    "teacher.best.safetensors",
    "init.safetensors",
    "mapping.json",
    "student.safetensors",
    "student.best.safetensors",
    "eval.json",
    "teacher/metrics.jsonl",
    "teacher/state.pt",
    "teacher/epoch.state.pt",
    "distill/metrics.jsonl",
    "distill/state.pt",
    "distill/epoch.state.pt",
}


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


@pytest.mark.slow
def test_a_run_makes_every_file(capsys: Capture, recipe: Path, tmp_path: Path) -> None:
    found = invoke(capsys, "run", recipe, "--run-dir", tmp_path / "a" / "b", "--json")
    assert found.code == 0
    assert set(contents(tmp_path / "a" / "b")) == FILES
    assert (tmp_path / "a" / "b" / "recipe.yaml").read_text() == recipe.read_text()
    document = found.document
    assert [(step["step"], step["status"]) for step in document["steps"]] == [(step, "done") for step in STEPS]
    assert [row["name"] for row in document["summary"]] == ["teacher", "student"]
    for step in ("teacher", "distill"):
        assert [record["epoch"] for record in history(tmp_path / "a" / "b", step)] == [1, 2]
        assert [line.split("  ")[0] for line in found.err.splitlines() if line.startswith(step)] == [
            f"{step} 1/2",
            f"{step} 2/2",
        ]


@pytest.mark.slow
def test_the_same_run_elsewhere_and_step_by_step_gives_the_same_bytes(
    capsys: Capture, recipe: Path, finished: Path, tmp_path: Path
) -> None:
    run_all(open_run(recipe, tmp_path / "again"))
    for step in STEPS:
        assert invoke(capsys, step, recipe, "--run-dir", tmp_path / "alone").code == 0
    expected = lasting(finished)
    assert len(expected) == 8
    assert lasting(tmp_path / "again") == expected
    assert lasting(tmp_path / "alone") == expected
    for step in ("teacher", "distill"):
        assert history(tmp_path / "again", step) == history(tmp_path / "alone", step) == history(finished, step)


def test_a_second_run_changes_nothing_and_repeats_no_line(capsys: Capture, recipe: Path, copy: Path) -> None:
    before = contents(copy)
    found = invoke(capsys, "run", recipe, "--run-dir", copy, "--json")
    assert found.code == 0
    assert contents(copy) == before
    assert {step["status"] for step in found.document["steps"]} == {"unchanged"}
    assert found.err == ""
    for step in STEPS:
        alone = invoke(capsys, step, recipe, "--run-dir", copy)
        assert alone.code == 0
        assert "already done" in alone.out
        assert alone.err == ""
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("step", "override", "named"),
    [
        ("teacher", "teacher.lr=0.01", "teacher.lr: 0.05 -> 0.01"),
        ("teacher", "data.subset=60", "data.subset: 80 -> 60"),
        ("init", "init.blocks=first", "init.blocks: proportional -> first"),
        ("init", "student.timesteps=3", "student.timesteps: 2 -> 3"),
        ("init", "init.reestimate=2", "init.reestimate: 0 -> 2"),
        ("distill", "distill.alpha=0.5", "distill.alpha: 0.3 -> 0.5"),
        ("distill", "distill.schedule=constant", "distill.schedule: cosine -> constant"),
        ("run", "seed=1", "seed: 0 -> 1"),
        ("run", "distill.clip_norm=1", "distill.clip_norm: null -> 1"),
        ("run", "runtime.precision=fp64", "runtime.precision: fp32 -> fp64"),
    ],
)
def test_a_changed_section_is_refused_and_nothing_touched(
    capsys: Capture, recipe: Path, finished: Path, step: str, override: str, named: str
) -> None:
    before = contents(finished)
    for extra in ([], ["--dry-run"]):
        found = invoke(capsys, step, recipe, "--run-dir", finished, override, *extra, "--json")
        assert found.code == 1
        error = found.document["error"]
        assert error["type"] == "RunConflictError"
        assert named in error["message"]
        assert "--force" in error["fix"]
        assert "--run-dir" in error["fix"]
        assert contents(finished) == before


def test_keys_that_came_later_are_no_conflict_unless_they_are_given(capsys: Capture, recipe: Path, copy: Path) -> None:
    """A run of before these keys goes on, as if it had had their defaults."""
    later = {
        "student": ("learn_decay", "learn_start", "reset"),
        "data": ("decode", "workers"),
        "distill": ("source_rates", "clip_norm"),
    }
    records = json.loads((copy / "steps.json").read_text())
    for record in records.values():
        for section, keys in later.items():
            for key in keys:
                record["settings"].get(section, {}).pop(key, None)
    (copy / "steps.json").write_text(json.dumps(records))
    found = invoke(capsys, "run", recipe, "--run-dir", copy, "--json")
    assert {step["status"] for step in found.document["steps"]} == {"unchanged"}
    for word in ("student.learn_decay=layer", "distill.clip_norm=1"):
        assert invoke(capsys, "run", recipe, "--run-dir", copy, word, "--json").document["error"]["type"] == (
            "RunConflictError"
        )


def test_settings_of_other_steps_are_no_conflict(recipe: Path, finished: Path) -> None:
    before = contents(finished)
    session = open_run(recipe, finished, "distill.lr=0.01", "init.head=copy", "eval.batch_size=7")
    assert teacher_step(session).status == "unchanged"
    session = open_run(
        recipe, finished, "teacher.lr=0.01", "distill.lr=0.01", "data.augment.crop=0", "distill.keep=best"
    )
    assert init_step(session).status == "unchanged"
    assert contents(finished) == before


def test_init_depends_on_what_its_re_estimation_reads(recipe: Path, tmp_path: Path) -> None:
    run_all(open_run(recipe, tmp_path, "init.reestimate=2"))
    for override in ("distill.batch_size=10", "data.subset=60"):
        with pytest.raises(RunConflictError, match=override.partition("=")[0]):
            init_step(open_run(recipe, tmp_path, "init.reestimate=2", override))


def test_force_starts_a_step_anew_and_later_ones_follow_saying_so(recipe: Path, copy: Path, finished: Path) -> None:
    other = "teacher.lr=0.02"
    first = open_run(recipe, copy, other, force=True)
    assert teacher_step(first).status == "done"
    assert weights_of(copy / "teacher.safetensors") != weights_of(finished / "teacher.safetensors")
    assert len(history(copy, "teacher")) == 2
    heard = Heard()
    results = run_all(open_run(recipe, copy, other, events=heard))
    assert [(result.step, result.status) for result in results] == [
        ("teacher", "unchanged"),
        ("init", "done"),
        ("distill", "done"),
        ("eval", "done"),
    ]
    for step in ("init", "distill", "eval"):
        assert any(said.startswith(f"{step}: ") and "replaced" in said for said in heard.said)
    assert heard.epochs == [("distill", 1), ("distill", 2)]
    assert all(lasting(copy)[name] != old for name, old in lasting(finished).items() if "recipe" not in name)


def test_force_without_another_setting_gives_the_same_bytes(recipe: Path, copy: Path, finished: Path) -> None:
    results = run_all(open_run(recipe, copy, force=True))
    assert {result.status for result in results} == {"done"}
    assert lasting(copy) == lasting(finished)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [["schedule=constant"], ["schedule=step", "milestones=[1]"]])
def test_epochs_may_grow_where_the_schedule_allows(recipe: Path, tmp_path: Path, schedule: list[str]) -> None:
    words = [f"{section}.{each}" for section in ("teacher", "distill") for each in schedule]
    more = [*words, "teacher.epochs=4", "distill.epochs=3"]
    run_all(open_run(recipe, tmp_path / "grown", *words))
    before = {step: (tmp_path / "grown" / step / "metrics.jsonl").read_text() for step in ("teacher", "distill")}
    heard = Heard()
    results = run_all(open_run(recipe, tmp_path / "grown", *more, events=heard))
    run_all(open_run(recipe, tmp_path / "long", *more))
    assert [result.status for result in results] == ["done"] * 4
    # The teacher goes on; the student's teacher was replaced, so the student begins again.
    assert heard.epochs == [("teacher", 3), ("teacher", 4), ("distill", 1), ("distill", 2), ("distill", 3)]
    assert (tmp_path / "grown" / "teacher" / "metrics.jsonl").read_text().startswith(before["teacher"])
    grown, long = lasting(tmp_path / "grown"), lasting(tmp_path / "long")
    # A best epoch of the first part carries the recipe that it was trained by, so its weights are what must agree.
    best = [name for name in long if ".best." in name]
    for name in best:
        found, expected = (load_file(tmp_path / run / name) for run in ("grown", "long"))
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name
        del grown[name], long[name]
    assert grown == long
    for step in ("teacher", "distill"):
        assert history(tmp_path / "grown", step) == history(tmp_path / "long", step)
    with pytest.raises(RunConflictError, match=r"teacher\.epochs: 4 -> 2"):
        teacher_step(open_run(recipe, tmp_path / "grown", *words))


@pytest.mark.slow
def test_the_student_may_grow_alone(recipe: Path, tmp_path: Path) -> None:
    words = ["distill.schedule=step", "distill.step_every=1", "distill.baseline=plain"]
    run_all(open_run(recipe, tmp_path / "grown", *words))
    lines = (tmp_path / "grown" / "distill" / "metrics.jsonl").read_text()
    heard = Heard()
    results = run_all(open_run(recipe, tmp_path / "grown", *words, "distill.epochs=3", events=heard))
    assert [result.status for result in results] == ["unchanged", "unchanged", "done", "done", "done"]
    assert heard.epochs == [("distill", 3), ("baseline", 3)]
    assert (tmp_path / "grown" / "distill" / "metrics.jsonl").read_text().startswith(lines)
    run_all(open_run(recipe, tmp_path / "long", *words, "distill.epochs=3"))
    for name in ("student.safetensors", "baseline.safetensors"):
        # The metadata differ: they name the files that were read, and those carry the recipe that made them.
        assert weights_of(tmp_path / "grown" / name) == weights_of(tmp_path / "long" / name)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_epochs_must_stay_where_the_schedule_knows_its_end(recipe: Path, tmp_path: Path, schedule: str) -> None:
    word = f"teacher.schedule={schedule}"
    teacher_step(open_run(recipe, tmp_path, word))
    with pytest.raises(RunConflictError, match="may grow where the schedule is step or constant"):
        teacher_step(open_run(recipe, tmp_path, word, "teacher.epochs=3"))


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_ends(capsys: Capture, recipe: Path, finished: Path) -> None:
    before = contents(finished)
    with FileLock(finished / ".lock"):
        found = invoke(capsys, "run", recipe, "--run-dir", finished, "--json")
        assert (found.code, found.document["error"]["type"]) == (1, "RunLockedError")
        assert "--run-dir" in found.document["error"]["fix"]
        with pytest.raises(RunLockedError), open_run(recipe, finished).locked():
            pass
    assert invoke(capsys, "run", recipe, "--run-dir", finished).code == 0
    assert contents(finished) == before


def test_the_lock_of_a_dead_process_does_not_block(recipe: Path, tmp_path: Path) -> None:
    script = "import os, sys, filelock; filelock.FileLock(sys.argv[1]).acquire(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / ".lock")], check=False).returncode == 9
    assert (tmp_path / ".lock").exists()
    with open_run(recipe, tmp_path).locked(), pytest.raises(RunLockedError), open_run(recipe, tmp_path).locked():
        pass


@pytest.mark.slow
def test_a_plain_baseline_does_not_depend_on_the_teacher(recipe: Path, tmp_path: Path) -> None:
    plain = "distill.baseline=plain"
    run_all(open_run(recipe, tmp_path, plain))
    for alpha in ("distill.alpha=0.5", "distill.temperature=2"):
        distill_step(open_run(recipe, tmp_path, plain, alpha, force=True))
        results = run_all(open_run(recipe, tmp_path, plain, alpha))
        assert [(each.step, each.status) for each in results if each.step == "baseline"] == [("baseline", "unchanged")]
    with pytest.raises(RunConflictError, match="idsnn run"):
        run_all(open_run(recipe, tmp_path, "distill.baseline=distilled", "distill.temperature=2"))


def test_the_steps_of_a_run(recipe: Path, tmp_path: Path) -> None:
    assert steps_of_run(open_run(recipe, tmp_path)) == list(STEPS)
    none = ["init.rule=none", "distill.alpha=0"]
    assert steps_of_run(open_run(recipe, tmp_path, *none)) == ["init", "distill", "eval"]
    with_baseline = steps_of_run(open_run(recipe, tmp_path, "distill.baseline=plain"))
    assert with_baseline == ["teacher", "init", "distill", "baseline", "eval"]
