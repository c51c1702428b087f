"""A grid of tiny runs: what it shares, what it equals, that it goes on, and what a report makes of its folder."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from invoking import invoke
from test_killed_runs import run_dying
from tiny_runs import Heard, contents, history, lasting, open_run, run_of, weights_of, write_recipe

from idsnn_cli.checkpoint import atomic_link
from idsnn_cli.errors import CheckpointError, MissingInputError, RunConflictError
from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.grid import Grid, places
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.recipe import LoadedRecipe, make_cells
from idsnn_cli.report.runs.side_by_side import describe_runs

pytestmark = pytest.mark.slow

VARY = ["distill.alpha=0,0.5"]


def open_grid(recipe: Path, folder: Path, heard: Heard, *words: str, seeds: str = "0,1", force: bool = False) -> Grid:
    def session(loaded: LoadedRecipe, where: Path) -> RunDirectory:
        return run_of(loaded, where, force=force, events=heard)

    return Grid(folder, make_cells(str(recipe), words, seeds, VARY), session)


def finish(grid: Grid) -> dict[str, list[str]]:
    """What each cell's steps came to."""
    grid.check()
    return {cell.name: [result.status for result in results] for cell, _, results in grid.run()}


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def folder(recipe: Path, heard: Heard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    finish(open_grid(recipe, folder, heard))
    return folder


def test_the_teacher_is_trained_once_and_held_once(folder: Path, heard: Heard) -> None:
    assert [epoch for name, epoch in heard.epochs if name == "teacher"] == [1, 2]
    assert len([name for name, _ in heard.epochs if name == "distill"]) == 4 * 2
    shared = folder / "teachers" / "shared" / "teacher.safetensors"
    cells = [path for path in folder.glob("distill*") if path.is_dir()]
    assert len(cells) == 4
    assert all((cell / "teacher.safetensors").samefile(shared) for cell in cells)


def test_a_cell_is_the_run_that_its_settings_make_alone(recipe: Path, folder: Path, tmp_path: Path) -> None:
    words = ("distill.alpha=0.5", "seed=1", "data.seed=0", "teacher.seed=0")
    run_all(open_run(recipe, tmp_path, *words))
    cell = folder / "distill.alpha=0.5,seed=1"
    for name in ("teacher", "init", "student", "student.best"):
        assert weights_of(cell / f"{name}.safetensors") == weights_of(tmp_path / f"{name}.safetensors")
    assert history(cell, "distill") == history(tmp_path, "distill")
    # And a command of its own finds nothing left to do there.
    assert [result.status for result in run_all(open_run(recipe, cell, *words))] == ["unchanged"] * 4


def test_seeds_differ_in_the_student_alone(folder: Path) -> None:
    first, second = (folder / f"distill.alpha=0.5,seed={seed}" for seed in (0, 1))
    assert weights_of(first / "init.safetensors") != weights_of(second / "init.safetensors")
    records = [json.loads((each / "steps.json").read_text()) for each in (first, second)]
    assert records[0]["distill"]["inputs"]["data"] == records[1]["distill"]["inputs"]["data"]
    assert records[0]["teacher"] == records[1]["teacher"]


def test_a_finished_grid_changes_nothing(recipe: Path, folder: Path) -> None:
    before = contents(folder)
    done = finish(open_grid(recipe, folder, Heard()))
    assert done == dict.fromkeys(done, ["unchanged"] * 4)
    assert contents(folder) == before


def test_more_seeds_join_what_is_there(recipe: Path, folder: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(folder, grown)
    heard = Heard()
    finish(open_grid(recipe, grown, heard, seeds="2"))
    assert {name for name, _ in heard.epochs} == {"distill"}
    index = json.loads((grown / "grid.json").read_text())["runs"]
    assert [(run["settings"]["distill.alpha"], run["seed"]) for run in index] == [
        (alpha, seed) for seed in (0, 1, 2) for alpha in ("0", "0.5")
    ]


def test_a_changed_teacher_is_noticed_before_anything_is_done(recipe: Path, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(RunConflictError, match=r"teacher step[\s\S]*teacher\.lr"):
        finish(open_grid(recipe, folder, Heard(), "teacher.lr=0.01"))
    assert contents(folder) == before


def test_force_makes_the_teacher_once_more_and_every_cell(recipe: Path, folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    heard = Heard()
    finish(open_grid(recipe, again, heard, "teacher.lr=0.01", force=True))
    assert len([name for name, _ in heard.epochs if name == "teacher"]) == 2
    assert len([name for name, _ in heard.epochs if name == "distill"]) == 8
    shared = weights_of(again / "teachers" / "shared" / "teacher.safetensors")
    assert shared != weights_of(folder / "teachers" / "shared" / "teacher.safetensors")
    assert all(weights_of(path) == shared for path in again.glob("distill*/teacher.safetensors"))


def test_a_link_is_a_copy_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"weights")

    def refuse(*given: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    atomic_link(source, target)
    assert target.read_bytes() == b"weights"
    assert not target.samefile(source)


def test_a_grid_killed_in_the_middle_ends_with_the_same_bytes(recipe: Path, folder: Path, tmp_path: Path) -> None:
    words = ("run", recipe, "--seeds", "0,1", "--vary", VARY[0], "--run-dir", tmp_path)
    # Eight batches of each training: the teacher's, a whole student's, and half of the next one's.
    assert run_dying("batch", 8 + 8 + 4, *words) != 0
    assert not (tmp_path / "distill.alpha=0,seed=1").exists()
    assert run_dying("never", 0, *words) == 0
    assert (tmp_path / "grid.json").read_bytes() == (folder / "grid.json").read_bytes()
    for name in (
        "teachers/shared",
        *(f"distill.alpha={alpha},seed={seed}" for alpha in ("0", "0.5") for seed in (0, 1)),
    ):
        assert lasting(tmp_path / name) == lasting(folder / name)


def test_a_report_of_the_folder_has_its_figures(folder: Path) -> None:
    document = describe_runs(gather([folder]), 0.0)
    assert [arm["name"] for arm in document["arms"]] == ["distill.alpha=0", "distill.alpha=0.5"]
    for arm, alpha in zip(document["arms"], ("0", "0.5"), strict=True):
        runs = [folder / f"distill.alpha={alpha},seed={seed}" for seed in (0, 1)]
        curves = [[line["test_top1"] for line in history(run, "distill")] for run in runs]
        evals = [json.loads((run / "eval.json").read_text())["results"][1]["top1"] for run in runs]
        assert arm["last"]["mean"] == statistics.fmean(curve[-1] for curve in curves)
        assert arm["best"]["values"] == [max(curve) for curve in curves]
        assert arm["measured"]["values"] == evals
        assert arm["reach"]["reached"] == 2
        assert arm["reach"]["images"] == 80
    plain, taught = (arm["reach"]["macs"] for arm in document["arms"])
    teacher = document["arms"][0]["teacher"]["macs"]
    # The teacher saw each of 80 images twice, forward and backward; as a teacher once, forward.
    assert taught - plain == pytest.approx(teacher / 6)


def test_energy_is_that_of_eval(recipe: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = tmp_path / "cell"
    shutil.copytree(folder / "distill.alpha=0.5,seed=0", cell)
    words = ("distill.alpha=0.5", "data.seed=0", "teacher.seed=0")
    assert invoke(capsys, "eval", recipe, *words, "--run-dir", cell, "--measure", "energy").code == 0
    rows = json.loads((cell / "eval.json").read_text())["results"]
    (network,) = describe_runs(gather([cell]))["networks"]
    assert network["energy_uj"] == rows[1]["energy"]["energy_uj"] > 0
    # What was measured beside the accuracy does not set it apart from the other seed.
    other = folder / "distill.alpha=0.5,seed=1"
    assert describe_runs(gather([cell, other]))["arms"][0]["runs"] == 2


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="holds no run"):
        gather([tmp_path])
    run = {"folder": "seed=0", "recipe": "tiny", "settings": {}, "seed": 0, "teacher": None}
    (tmp_path / "grid.json").write_text(json.dumps({"runs": [run]}))
    with pytest.raises(MissingInputError, match="a grid of which no run has begun"):
        gather([tmp_path])


@pytest.mark.parametrize(
    ("file", "text", "fix"),
    [
        ("distill/metrics.jsonl", '{"epoch": 1, "sec', "Leave this run out"),
        ("distill/metrics.jsonl", '{"epoch": 1}', "Leave this run out"),
        ("distill/metrics.jsonl", '{"epoch": 1, "seconds": NaN}', "Leave this run out"),
        ("eval.json", "[]", "idsnn eval"),
        ("eval.json", '{"results": [{"name": "student", "top1": "much"}]}', "idsnn eval"),
        ("grid.json", '{"runs": [{"recipe": "tiny"}]}', "Remove it"),
        ("grid.json", "{", "Remove it"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(folder: Path, tmp_path: Path, file: str, text: str, fix: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "distill.alpha=0.5,seed=0", run)
    (run / file).write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        gather([run])
    assert str(run / file) in caught.value.message
    assert fix in str(caught.value.fix)


def test_figures_of_another_network_are_not_taken_for_the_runs(folder: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", folder / "distill.alpha=0.5,seed=1"
    shutil.copytree(folder / "distill.alpha=0.5,seed=0", run)
    own = json.loads((run / "eval.json").read_text())
    (run / "eval.json").write_text((other / "eval.json").read_text())
    with pytest.raises(CheckpointError, match=r"eval\.json is not what this run's eval wrote"):
        gather([run])
    # Nor those of a student that has been trained anew since.
    (run / "eval.json").write_bytes((folder / "distill.alpha=0.5,seed=0" / "eval.json").read_bytes())
    assert gather([run])[0].evaluation == own
    records = json.loads((run / "steps.json").read_text())
    records["distill"]["outputs"] = dict.fromkeys(records["distill"]["outputs"], "0" * 64)
    (run / "steps.json").write_text(json.dumps(records))
    assert gather([run])[0].evaluation is None


def test_one_file_for_two_outputs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = invoke(capsys, "report", tmp_path, "--html", tmp_path / "a", "--markdown", tmp_path / "." / "a")
    assert (refused.code, "two outputs are one file" in refused.err) == (2, True)


def test_the_commands_speak_of_grids(
    recipe: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = ("run", recipe, "--seeds", "0,1", "--vary", VARY[0], "--run-dir", folder)
    plan = invoke(capsys, *grid, "--dry-run", "--json").document
    assert [each["run"] for each in plan["grid"]] == [each["folder"] for each in read_index(folder)]
    assert {step["recorded"] for each in plan["grid"] for step in each["steps"]} == {"done"}
    done = invoke(capsys, *grid, "--json").document
    assert {step["status"] for each in done["grid"] for step in each["steps"]} == {"unchanged"}
    monkeypatch.setenv("COLUMNS", "80")
    files = {"--html": tmp_path / "r.html", "--markdown": tmp_path / "r.md", "--output": tmp_path / "r.json"}
    options = [word for pair in files.items() for word in pair]
    shown = invoke(capsys, "report", folder, "--reach", "5", *options)
    assert shown.code == 0
    assert max(len(line) for line in shown.out.splitlines() if not line.startswith("The best")) <= 80
    assert "+ teacher" in shown.out
    again = invoke(capsys, "report", folder, folder / "distill.alpha=0,seed=0", "--reach", "5", "--json")
    assert again.document == json.loads(files["--output"].read_text())
    refused = invoke(capsys, "report", folder, *options)
    assert refused.code == 1
    assert "exists already" in refused.err


def read_index(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "grid.json").read_text())["runs"]
    return found


def test_what_touches_the_teacher_gives_each_its_own(tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path))

    def teachers(seeds: str | None, *vary: str) -> list[str | None]:
        return [places(cell)["teacher"] for cell in make_cells(recipe, [], seeds, vary)]

    assert set(teachers("0,1", "distill.alpha=0,0.3", "student.timesteps=2,4")) == {"teachers/shared"}
    assert teachers(None, "seed=0,1") == ["teachers/seed=0", "teachers/seed=1"]
    found = teachers("0,1", "teacher.epochs=3,4", "teacher.keep=last,best", "init.shortcut=copy,random")
    assert set(found) == {"teachers/teacher.epochs=3", "teachers/teacher.epochs=4"}
