"""The ANN of the student's shape in a grid: trained once where cells differ in nothing that it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoking import invoke
from recipe_values import APART, BESIDE, VALUES, keys_of, plain_value
from test_shared_baselines import finish, open_grid
from tiny_runs import Heard, history, lasting, open_run, run_of, settings_of, weights_of, write_recipe

from idsnn_cli.pipeline.grid import places
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.pipeline.run_directory import read_records
from idsnn_cli.pipeline.steps.base import step
from idsnn_cli.recipe import Recipe, make_cells

RECIPE = """
data: {dataset: digits, subset: 80, test_subset: 40, augment: {crop: 2, flip: false}}
teacher: {arch: resnet14, width: 4, stem: 7x7, epochs: 1, batch_size: 20}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
pretrain: {epochs: 2, batch_size: 20}
distill: {epochs: 1, batch_size: 20}
runtime: {device: cpu}
"""
OWN = {
    "pretrain.class_weights": "none,balanced",
    "pretrain.activation": "relu,qcfs",
    "pretrain.levels": "2,4",
    "pretrain.percentile": "98,99",
    "init.random": "he,torch",
    "pretrain.epochs": "1,3",
    "pretrain.batch_size": "10,40",
    "pretrain.optimizer": "sgd,adamw",
    "pretrain.lr": "0.1,0.2",
    "pretrain.momentum": "0.5,0.8",
    "pretrain.nesterov": "true,false",
    "pretrain.weight_decay": "0,0.1",
    "pretrain.decay_norm_and_bias": "true,false",
    "pretrain.schedule": "constant,cosine",
    "pretrain.milestones": "[1],[2]",
    "pretrain.step_every": "1,2",
    "pretrain.gamma": "0.2,0.3",
    "pretrain.warmup_epochs": "0,1",
    "pretrain.label_smoothing": "0,0.1",
    "pretrain.clip_norm": "1,2",
    "pretrain.keep": "last,best",
    "pretrain.evaluate_every": "1,2",
    "pretrain.alpha": "0.1,0.2",
    "pretrain.temperature": "1,2",
    "init.multiplicity": "ignore,divide",
    "init.noise": "0,0.1",
    "init.kernels": "centre,area",
    "init.bottleneck": "fold,drop",
    "init.shortcut": "copy,random",
    "init.bare_shortcut": "random,select",
    "init.rescale": "none,variance",
    "init.convert": "none,weight-normalisation",
    "init.images": "10,20",
}
NEEDS = BESIDE | {
    "pretrain.levels": ("pretrain.activation=qcfs",),
    "pretrain.percentile": ("pretrain.activation=qcfs",),
    "distill.warmup_epochs": ("distill.epochs=3",),
    "pretrain.milestones": ("pretrain.schedule=step",),
    "pretrain.step_every": ("pretrain.schedule=step",),
    "pretrain.gamma": ("pretrain.schedule=step", "pretrain.step_every=1"),
}
# It reads this one only where a rule looks at images; an own network costs time and is never wrong.
SOMETIMES = {"distill.batch_size"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), RECIPE)


@pytest.mark.slow
def test_it_is_trained_once_for_each_seed_and_is_what_a_run_alone_trains(recipe: Path, tmp_path: Path) -> None:
    heard, grid = Heard(), tmp_path / "grid"
    finish(open_grid(recipe, grid, heard, vary="student.v_threshold=0.5,1"))
    assert [epoch for name, epoch in heard.epochs if name == "pretrain"] == [1, 2] * 2
    assert [epoch for name, epoch in heard.epochs if name == "teacher"] == [1]
    cell = grid / "student.v_threshold=1,seed=1"
    assert (cell / "pretrain.safetensors").samefile(grid / "pretrained" / "seed=1" / "pretrain.safetensors")
    assert read_records(cell)["pretrain"].figures["shared_from"] == "../pretrained/seed=1"
    words = ("student.v_threshold=1", "seed=1", "data.seed=0", "teacher.seed=0")
    run_all(open_run(recipe, tmp_path / "alone", *words))
    for name in ("pretrain", "pretrain.best"):
        assert weights_of(cell / f"{name}.safetensors") == weights_of(tmp_path / "alone" / f"{name}.safetensors")
    assert history(cell, "pretrain") == history(tmp_path / "alone", "pretrain")
    for name in ("init.safetensors", "mapping.json"):
        assert lasting(cell)[name] == lasting(tmp_path / "alone")[name]
    assert weights_of(cell / "student.safetensors") == weights_of(tmp_path / "alone" / "student.safetensors")
    assert set(finish(open_grid(recipe, grid, Heard(), vary="student.v_threshold=0.5,1"))[cell.name]) == {"unchanged"}


def test_every_key_that_it_can_read_is_among_these() -> None:
    sections = ("seed", "data", "student", "init", "pretrain", "runtime")
    keys = {key for key in keys_of(Recipe) if key.split(".")[0] in sections}
    assert keys - {"init.class_map"} <= {*VALUES, *OWN}


@pytest.mark.parametrize("key", [*VALUES, *OWN])
def test_it_is_shared_exactly_where_its_record_would_be_equal(recipe: Path, key: str) -> None:
    cells = make_cells(str(recipe), NEEDS.get(key, ()), None, [f"{key}={(VALUES | OWN)[key]}"])
    records = set()
    for cell in cells:
        session = run_of(cell.loaded, Path("run"))
        session.workspace.__dict__["precision"] = cell.loaded.recipe.runtime.precision
        plain = cell.loaded.recipe.model_dump(mode="json")
        # The teacher and the source count by their bytes, which these decide.
        read = [settings_of(session, "pretrain"), plain["teacher"], step("teacher").kept(session).name]
        records.add(
            json.dumps([read, plain["init"]["source"], [plain_value(cell.loaded.recipe, key)] * (key in APART)])
        )
    names = {places(cell)["pretrain"] for cell in cells}
    assert len(names) == len(records) or (key in SOMETIMES and len(names) > len(records))


def test_the_plan_says_where_it_is(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", recipe, "--vary", "distill.alpha=0,0.5", "--run-dir", tmp_path, "--dry-run")
    assert "teacher from teachers/shared; pretrain from pretrained/shared" in invoke(capsys, *words).out
    assert "pretrain from" not in invoke(capsys, *words, "pretrain.epochs=0").out
