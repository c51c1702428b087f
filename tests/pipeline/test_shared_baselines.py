"""The baseline of a grid: trained once where cells differ in nothing that it reads, and once more where they do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from invoking import invoke
from recipe_values import APART, BESIDE, VALUES, keys_of, plain_value
from test_killed_runs import run_dying
from tiny_runs import Heard, contents, history, lasting, open_run, run_of, settings_of, weights_of, write_recipe

from idsnn_cli.errors import RunConflictError
from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.grid import Grid, places
from idsnn_cli.pipeline.run import adopt, run_all
from idsnn_cli.pipeline.run_directory import RunDirectory, read_records
from idsnn_cli.pipeline.steps.base import step
from idsnn_cli.recipe import LoadedRecipe, Recipe, make_cells
from idsnn_cli.report.runs.side_by_side import describe_runs

pytestmark = pytest.mark.slow

ALPHA = "distill.alpha=0,0.5"
PLAIN = "distill.baseline=plain"


def open_grid(
    recipe: Path, folder: Path, heard: Heard, *words: str, vary: str = ALPHA, seeds: str = "0,1", force: bool = False
) -> Grid:
    def session(loaded: LoadedRecipe, where: Path) -> RunDirectory:
        return run_of(loaded, where, force=force, events=heard)

    return Grid(folder, make_cells(str(recipe), words, seeds, [vary]), session)


def finish(grid: Grid) -> dict[str, list[str]]:
    grid.check()
    return {cell.name: [result.status for result in results] for cell, _, results in grid.run()}


def baseline_epochs(heard: Heard) -> list[int]:
    return [epoch for name, epoch in heard.epochs if name == "baseline"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def folder(recipe: Path, heard: Heard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    finish(open_grid(recipe, folder, heard, PLAIN))
    return folder


def test_it_is_trained_once_for_each_seed_and_held_once(folder: Path, heard: Heard) -> None:
    assert baseline_epochs(heard) == [1, 2] * 2
    for seed in (0, 1):
        shared = folder / "baselines" / f"seed={seed}" / "baseline.safetensors"
        for alpha in ("0", "0.5"):
            cell = folder / f"distill.alpha={alpha},seed={seed}"
            assert (cell / "baseline.safetensors").samefile(shared)
            assert read_records(cell)["baseline"].figures["shared_from"] == f"../baselines/seed={seed}"
    index = json.loads((folder / "grid.json").read_text())["runs"]
    assert [run["baseline"] for run in index] == [f"baselines/seed={seed}" for seed in (0, 0, 1, 1)]


def test_a_cell_has_the_baseline_that_its_settings_train_alone(recipe: Path, folder: Path, tmp_path: Path) -> None:
    # The second cell of its seed: the first one's settings trained what it holds.
    words = (PLAIN, "distill.alpha=0.5", "seed=1", "data.seed=0", "teacher.seed=0")
    run_all(open_run(recipe, tmp_path, *words))
    cell = folder / "distill.alpha=0.5,seed=1"
    for name in ("baseline", "baseline.best"):
        assert weights_of(cell / f"{name}.safetensors") == weights_of(tmp_path / f"{name}.safetensors")
    assert history(cell, "baseline") == history(tmp_path, "baseline")
    assert measured(cell) == measured(tmp_path)
    # And a command of its own finds nothing left to do there.
    assert [result.status for result in run_all(open_run(recipe, cell, *words))] == ["unchanged"] * 5


def measured(run_dir: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((run_dir / "eval.json").read_text())["results"]
    return [{key: value for key, value in row.items() if key not in ("file", "images_per_second")} for row in rows]


def test_a_finished_grid_changes_nothing(recipe: Path, folder: Path) -> None:
    before = contents(folder)
    done = finish(open_grid(recipe, folder, Heard(), PLAIN))
    assert done == dict.fromkeys(done, ["unchanged"] * 5)
    assert contents(folder) == before


def test_another_value_finds_the_baselines_that_are_there(recipe: Path, folder: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(folder, grown)
    heard = Heard()
    finish(open_grid(recipe, grown, heard, PLAIN, vary="init.blocks=last"))
    assert {name for name, _ in heard.epochs} == {"distill"}
    assert (grown / "init.blocks=last,seed=0" / "baseline.safetensors").exists()


def test_a_changed_baseline_is_noticed_before_anything_is_done(recipe: Path, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(RunConflictError, match=r"baseline step[\s\S]*distill\.lr"):
        finish(open_grid(recipe, folder, Heard(), PLAIN, "distill.lr=0.01", vary="init.blocks=last"))
    assert contents(folder) == before


def test_a_file_that_the_grid_did_not_write_is_kept(recipe: Path, folder: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(folder, spoilt)
    mine = spoilt / "distill.alpha=0,seed=0" / "baseline.safetensors"
    mine.unlink()
    mine.write_bytes(b"mine")
    with pytest.raises(RunConflictError, match="not what the baseline step"):
        finish(open_grid(recipe, spoilt, Heard(), PLAIN))
    assert mine.read_bytes() == b"mine"
    heard = Heard()
    finish(open_grid(recipe, spoilt, heard, PLAIN, force=True))
    assert baseline_epochs(heard) == [1, 2] * 2
    assert weights_of(mine) == weights_of(folder / "distill.alpha=0,seed=0" / "baseline.safetensors")


def test_a_file_is_seen_as_anothers_where_the_record_is_the_same(recipe: Path, folder: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(folder, spoilt)
    name = "distill.alpha=0,seed=0"
    mine = spoilt / name / "baseline.safetensors"
    mine.unlink()
    mine.write_bytes(b"mine")
    for force in (False, True):
        grid = open_grid(recipe, spoilt, Heard(), PLAIN, force=force)
        cell = next(cell for cell in grid.cells if cell.name == name)
        holder, run = grid.shared(cell)["baseline"], grid.run_of(cell)
        if force:
            assert adopt(run, holder, step("baseline")).status == "done"
            assert weights_of(mine) == weights_of(folder / name / "baseline.safetensors")
        else:
            with pytest.raises(RunConflictError, match="not what the baseline step"):
                adopt(run, holder, step("baseline"))
            assert mine.read_bytes() == b"mine"


def test_a_distilled_baseline_is_shared_by_starts_and_not_by_losses(recipe: Path, tmp_path: Path) -> None:
    distilled, heard = "distill.baseline=distilled", Heard()
    finish(open_grid(recipe, tmp_path, heard, distilled, vary="init.blocks=first,last", seeds="0"))
    assert baseline_epochs(heard) == [1, 2]
    folder = tmp_path / "baselines" / "seed=0"
    assert (folder / "teacher.safetensors").samefile(tmp_path / "teachers" / "shared" / "teacher.safetensors")
    run_all(open_run(recipe, tmp_path / "alone", distilled, "init.blocks=last"))
    cell = tmp_path / "init.blocks=last,seed=0"
    assert weights_of(cell / "baseline.safetensors") == weights_of(tmp_path / "alone" / "baseline.safetensors")
    finish(open_grid(recipe, tmp_path, heard, distilled, vary="distill.alpha=0.5", seeds="0"))
    assert baseline_epochs(heard) == [1, 2] * 2
    assert (tmp_path / "baselines" / "distill.alpha=0.5,seed=0" / "baseline.safetensors").exists()


def test_every_key_that_a_baseline_can_read_is_among_these() -> None:
    keys = {key for key in keys_of(Recipe) if key.split(".")[0] in ("seed", "data", "student", "distill", "runtime")}
    assert keys <= set(VALUES)


@pytest.mark.parametrize("baseline", ["plain", "distilled"])
@pytest.mark.parametrize("key", VALUES)
def test_it_is_shared_exactly_where_its_record_would_be_equal(recipe: Path, key: str, baseline: str) -> None:
    words = () if key == "distill.baseline" else (f"distill.baseline={baseline}",)
    cells = make_cells(str(recipe), (*words, *BESIDE.get(key, ())), None, [f"{key}={VALUES[key]}"])
    names = {places(cell)["baseline"] for cell in cells}
    records = set()
    for cell in cells:
        session = run_of(cell.loaded, Path("run"))
        session.workspace.__dict__["precision"] = cell.loaded.recipe.runtime.precision
        read = settings_of(session, "baseline")
        if baseline == "distilled":
            # The teacher counts by its bytes, which these decide.
            plain = cell.loaded.recipe.model_dump(mode="json")
            read["its teacher"] = plain["teacher"] | {"keep": step("teacher").kept(session).name}
        records.add(json.dumps([read, [plain_value(cell.loaded.recipe, key)] * (key in APART)]))
    assert len(names) == len(records)


def test_a_grid_killed_while_a_baseline_trains_ends_with_the_same_bytes(
    recipe: Path, folder: Path, tmp_path: Path
) -> None:
    words = ("run", recipe, PLAIN, "--seeds", "0,1", "--vary", ALPHA, "--run-dir", tmp_path)
    # Eight batches of each training: the teacher's, and half of the first baseline's.
    assert run_dying("batch", 8 + 4, *words) != 0
    assert not (tmp_path / "distill.alpha=0,seed=0").exists()
    # Then in the second cell, which has its baseline from the first: after half of its student.
    assert run_dying("batch", 4 + 8 + 4, *words) != 0
    heard = Heard()
    finish(open_grid(recipe, tmp_path, heard, PLAIN))
    assert baseline_epochs(heard) == [1, 2]  # that of the second seed
    assert (tmp_path / "grid.json").read_bytes() == (folder / "grid.json").read_bytes()
    places = [f"baselines/seed={seed}" for seed in (0, 1)]
    places += [f"distill.alpha={alpha},seed={seed}" for alpha in ("0", "0.5") for seed in (0, 1)]
    for place in places:
        assert lasting(tmp_path / place) == lasting(folder / place)


def test_the_plan_says_which_baseline_a_run_takes(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", recipe, "--vary", ALPHA, "--run-dir", tmp_path, "--dry-run")
    plan = invoke(capsys, *words, PLAIN, "--json").document["grid"]
    assert [each["baseline"] for each in plan] == ["baselines/shared"] * 2
    assert "teacher from teachers/shared; baseline from baselines/shared" in invoke(capsys, *words, PLAIN).out
    assert "baseline from" not in invoke(capsys, *words).out


def test_a_report_counts_it_once(folder: Path) -> None:
    found = describe_runs(gather([folder]), 0.0)
    assert [arm["name"] for arm in found["arms"]] == ["distill.alpha=0", "baseline", "distill.alpha=0.5"]
    baseline = found["arms"][1]
    assert (baseline["runs"], baseline["seeds"]) == (2, [0, 1])
    curves = [
        [line["test_top1"] for line in history(folder / "baselines" / f"seed={seed}", "baseline")] for seed in (0, 1)
    ]
    assert baseline["last"]["values"] == [curve[-1] for curve in curves]
    assert baseline["reach"]["images"] == 80
    first = next(each for each in found["networks"] if each["role"] == "baseline")
    assert first["run"] == str(folder / "distill.alpha=0,seed=0")
    assert first["shared_with"] == [str(folder / "distill.alpha=0.5,seed=0")]
    assert any(note.startswith("baseline: 4 runs have it in common") for note in found["notes"])
    # The cost in the record is what the one training took, in every run that it stands for.
    seconds = {read_records(path)["baseline"].figures["train_seconds"] for path in folder.glob("*/*seed=0")}
    seconds |= {read_records(path)["baseline"].figures["train_seconds"] for path in folder.glob("distill*seed=0")}
    assert len(seconds) == 1


def test_a_baseline_trained_again_elsewhere_is_counted_once(recipe: Path, folder: Path, tmp_path: Path) -> None:
    run_all(open_run(recipe, tmp_path / "alone", PLAIN, "data.seed=0", "teacher.seed=0", "init.blocks=last"))
    found = describe_runs(gather([folder, tmp_path / "alone"]))
    baselines = [arm for arm in found["arms"] if arm["role"] == "baseline"]
    assert [(arm["name"], arm["seeds"]) for arm in baselines] == [("baseline", [0, 1])]
    assert found["targets"][0]["top1"] == baselines[0]["best"]["mean"]


def test_a_start_that_was_trained_first_has_the_same_baseline(recipe: Path, tmp_path: Path) -> None:
    heard = Heard()
    finish(open_grid(recipe, tmp_path, heard, PLAIN, vary="pretrain.epochs=0,1", seeds="0"))
    assert baseline_epochs(heard) == [1, 2]
    arms = describe_runs(gather([tmp_path]))["arms"]
    assert [arm["name"] for arm in arms] == ["pretrain.epochs=0", "baseline", "pretrain.epochs=1"]
