"""The recipes that ship: found, explained by their opening comment, valid, and copied whole."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from idsnn_cli.architecture import ann_names
from idsnn_cli.errors import RecipeError, UsageError, WriteError
from idsnn_cli.recipe import copy_to, dump_resolved, find, library, load_recipe, shipped, split_words
from idsnn_cli.recipe.library import ShippedRecipe
from idsnn_cli.rules import BEST, BEST_REESTIMATE, Rules

SHIPPED = shipped()


def test_the_four_first_recipes_ship() -> None:
    names = [recipe.name for recipe in SHIPPED]
    assert names == sorted(names)
    assert {"quickstart", "smoke-cifar", "cifar10", "cifar100"} <= set(names)


@pytest.mark.parametrize("shipped_recipe", SHIPPED, ids=lambda recipe: recipe.name)
def test_a_recipe_opens_with_its_purpose_its_command_and_one_override(shipped_recipe: ShippedRecipe) -> None:
    lines = shipped_recipe.path.read_text().splitlines()
    comment = [line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]]
    assert comment[0] == shipped_recipe.purpose
    assert shipped_recipe.purpose.endswith(".")
    commands = [shlex.split(line) for line in comment if line.startswith("idsnn ")]
    assert [words[:2] for words in commands] == [["idsnn", "run"]] * 2
    assert shlex.split(shipped_recipe.command) == commands[0]
    name, overrides = split_words(commands[0][2:])
    assert (name, overrides) == (shipped_recipe.name, [])
    name, overrides = split_words(commands[1][2:])
    assert name == shipped_recipe.name
    assert len(overrides) == 1
    plain, changed = load_recipe(name), load_recipe(name, overrides)
    assert dump_resolved(plain.recipe) != dump_resolved(changed.recipe)


@pytest.mark.parametrize("shipped_recipe", SHIPPED, ids=lambda recipe: recipe.name)
def test_a_recipe_builds_both_networks(shipped_recipe: ShippedRecipe) -> None:
    recipe = load_recipe(shipped_recipe.name).recipe
    assert recipe.teacher.arch in ann_names()
    assert recipe.student.architecture(10).kind == "spiking"
    assert recipe.teacher.architecture(10).kind == "ann"


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_papers_setting_has_the_papers_numbers(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert recipe.data.dataset == name
    assert (recipe.data.normalise, recipe.data.select, recipe.data.augment.crop, recipe.data.augment.flip) == (
        "cifar100",
        "test",
        4,
        True,
    )
    for part in (recipe.teacher, recipe.distill):
        assert (part.optimizer, part.lr, part.momentum, part.weight_decay) == ("sgd", 0.05, 0.9, 1e-4)
        assert (part.epochs, part.batch_size, part.decay_norm_and_bias, part.keep) == (200, 64, True, "best")
        assert (part.schedule, part.step_every, part.gamma) == ("step", 60, 0.1)
    assert (recipe.teacher.arch, recipe.student.arch, recipe.student.timesteps) == ("resnet34", "spiking-resnet18", 4)
    assert (recipe.init.rule, recipe.init.blocks, recipe.init.shortcut, recipe.init.head) == (
        "loop",
        "proportional",
        "copy",
        "random",
    )
    assert (vars(recipe.distill)["alpha"], vars(recipe.distill)["temperature"]) == (0.3, 4.0)
    neuron = recipe.student.neuron()
    assert (neuron.v_threshold, neuron.decay, neuron.surrogate, neuron.surrogate_scale) == (0.5, 0.25, "rectangle", 0.5)


ARMS = {
    "baseline": ("none", 0.0),
    "init": ("loop", 0.0),
    "kd": ("none", 0.3),
    "both": ("loop", 0.3),
    "idsnn": ("loop", 0.3),
}


@pytest.mark.parametrize("name", [recipe.name for recipe in SHIPPED if recipe.name.startswith("paper/")])
def test_a_row_of_the_papers_tables_is_what_its_name_says(name: str) -> None:
    """The figures of each table by its name, everything else as the preset has it."""
    table, dataset, arm, *last = name.removeprefix("paper/").split("-")
    recipe = load_recipe(name.removeprefix("paper/")).recipe
    assert recipe.data.dataset == dataset
    assert (recipe.init.rule, vars(recipe.distill)["alpha"]) == ARMS[arm]
    assert recipe.claims.table == int(table.removeprefix("table"))
    assert recipe.claims.row == {"idsnn": "both"}.get(arm, arm)
    if table == "table4":
        step = int(last[0].removeprefix("step"))
        assert (recipe.distill.step_every, recipe.distill.epochs) == (step, {60: 200, 20: 80, 10: 40}[step])
        assert recipe.student.timesteps == 6
    else:
        assert recipe.student.timesteps == int(last[-1].removeprefix("t"))
    # A row of others names its network.
    networks = (last[0], f"spiking-{last[0]}") if len(last) > 1 else ("resnet34", "spiking-resnet18")
    assert (recipe.teacher.arch, recipe.student.arch) == networks
    preset = load_recipe("presets/paper").recipe.model_dump()
    found = recipe.model_dump()
    for part, keys in {
        "data": ("dataset",),
        "teacher": ("arch",),
        "student": ("timesteps", "arch"),
        "init": ("rule",),
        "distill": ("alpha", "epochs", "step_every"),
        "claims": ("table", "row"),
    }.items():
        for key in keys:
            found[part][key] = preset[part][key]
    assert found == preset


def test_the_release_differs_from_the_paper_where_its_code_does() -> None:
    release, paper = (load_recipe(f"presets/{name}").recipe for name in ("release", "paper"))
    assert (release.student.stem_padding, release.init.blocks, release.init.shortcut) == (3, "first", "random")
    assert release.init.random == "torch"
    for part in (release.teacher, release.distill):
        assert (part.milestones, part.step_every) == ((60, 120, 160), None)
    rules = {"blocks": "proportional", "shortcut": "copy", "random": "he"}
    changed: dict[str, dict[str, object]] = {"student": {"stem_padding": None}, "init": {**rules}}
    back = {part: getattr(release, part).model_copy(update=update) for part, update in changed.items()}
    steps = {
        part: getattr(release, part).model_copy(update={"milestones": None, "step_every": 60})
        for part in ("teacher", "distill")
    }
    assert release.model_copy(update={**back, **steps}) == paper


def test_a_near_name_is_suggested_and_the_names_are_listed() -> None:
    with pytest.raises(RecipeError) as caught:
        find("cifar_100")
    assert "Did you mean 'cifar100'?" in caught.value.message
    assert "quickstart" in str(caught.value.fix)


def test_a_bare_word_never_reads_a_file_but_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("data: {dataset: digits}\nseed: 9\n")
    with pytest.raises(RecipeError, match=r"\./mine\.yaml"):
        load_recipe("mine")
    assert load_recipe("mine.yaml").recipe.seed == load_recipe("./mine.yaml").recipe.seed == 9
    with pytest.raises(RecipeError, match=r"^cifar10\.yaml: there is no such file"):
        load_recipe("cifar10.yaml")


def test_recipes_in_folders_are_named_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "table1-t6.yaml").write_text("# Row one.\n\nextends: base\nseed: 6\n")
    (tmp_path / "base.yaml").write_text("data: {dataset: digits}\n")
    monkeypatch.setattr(library, "root", lambda: tmp_path)
    assert [(r.name, r.purpose, r.command) for r in shipped()] == [
        ("base", "", "idsnn run base"),
        ("paper/table1-t6", "Row one.", "idsnn run paper/table1-t6"),
    ]
    loaded = load_recipe("paper/table1-t6")
    assert (loaded.recipe.seed, loaded.name) == (6, "table1-t6")
    assert copy_to("paper/table1-t6", tmp_path / "out" / "x.yaml").read_text() == loaded.text


def test_the_wheels_folder_comes_before_the_repositorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "idsnn_cli" / "recipe" / "library.py"
    monkeypatch.setattr(library, "__file__", str(module))
    assert library.root() == tmp_path / "recipes"
    assert shipped() == []
    with pytest.raises(RecipeError, match="No recipes ship"):
        find("cifar10")
    (tmp_path / "idsnn_cli" / "_recipes").mkdir(parents=True)
    assert library.root() == tmp_path / "idsnn_cli" / "_recipes"


def test_a_copy_is_whole_loads_alone_and_never_overwrites(tmp_path: Path) -> None:
    for recipe in SHIPPED:
        target = copy_to(recipe.name, tmp_path)
        assert target.parent == tmp_path
        assert target.read_bytes() == recipe.path.read_bytes()
        assert load_recipe(target).recipe == load_recipe(recipe.name).recipe
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "cifar10.yaml").stat().st_mode) == 0o666 & ~umask
    (tmp_path / "cifar10.yaml").write_text("mine")
    for dest in (tmp_path, tmp_path / "cifar10.yaml"):
        with pytest.raises(UsageError, match="exists already"):
            copy_to("cifar10", dest)
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        copy_to("cifar10", tmp_path / "dangling.yaml")
    assert (tmp_path / "cifar10.yaml").read_text() == "mine"
    with pytest.raises(WriteError):
        copy_to("cifar10", tmp_path / "cifar10.yaml" / "below.yaml")
    for problem in (tmp_path / "cifar10.yaml" / "a" / "b.yaml", tmp_path / ("n" * 300)):
        with pytest.raises(WriteError):
            copy_to("cifar10", problem)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    target = tmp_path / "x.yaml"
    target.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        copy_to("cifar10", target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]
    assert target.read_text() == "mine"


def test_a_file_system_without_hard_links_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert copy_to("cifar10", tmp_path / "x.yaml").read_bytes() == find("cifar10").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_recipes_do_not_import_torch() -> None:
    code = "import sys, idsnn_cli.recipe as r; r.load_recipe('cifar10'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CONVERSIONS = ("weight-normalisation", "threshold-balancing", "soft-reset", "calibration", "cos")


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_rival_that_converts_trains_no_student(name: str) -> None:
    """What its rule needs to keep rates: a student of the teacher's depth, no leak, a copied head, threshold 1."""
    recipe = load_recipe(f"rivals/{name}").recipe
    assert (recipe.distill.epochs, recipe.distill.taught, recipe.distill.baseline) == (0, False, "none")
    assert f"spiking-{recipe.teacher.arch}" == recipe.student.arch
    neuron = recipe.student.neuron()
    assert (neuron.v_threshold, neuron.decay, recipe.init.head) == (1.0, 1.0, "copy")
    quantised = recipe.teacher.activation == "qcfs"
    assert quantised is (name == "cos") is (recipe.init.convert == "learnt-thresholds")
    assert (neuron.reset == "soft") is (name in ("soft-reset", "calibration", "cos"))
    assert (neuron.start == "half") is (name in ("calibration", "cos"))
    assert (recipe.init.calibrate > 0) is (name == "calibration")
    preset = load_recipe("presets/paper").recipe
    assert recipe.data == preset.data
    trained = {"arch": "resnet34", "activation": "relu", "levels": None}
    assert recipe.teacher.model_copy(update=trained) == preset.teacher


def test_another_rule_on_top_of_a_preset_brings_its_own_choices() -> None:
    """What the preset says of ``loop`` must not stand in the way of what ``best`` stands for."""
    found = load_recipe("presets/paper", ["init.rule=best"]).recipe.init
    assert (found.rules(), found.reestimate) == (BEST, BEST_REESTIMATE)
    assert load_recipe("presets/paper").recipe.init.rules() == Rules()
