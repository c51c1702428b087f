"""Every kind of fault, at its exact place and in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import Recipe, load_recipe, recipe_from_mapping


def faults_of(folder: Path, text: str, *overrides: str) -> list[str]:
    """The fault lines of a recipe, with the file's name cut from their places."""
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == 2
    assert caught.value.fix
    return [line.removeprefix(f"{path}:") for line in caught.value.message.splitlines()]


CASES = {
    "dataset: cifar11": "2:12: data.dataset: given cifar11; allowed one of cifar10, cifar100, cifar10dvs, digits, "
    "dvsgesture, events, folder, nmnist, npz, webdataset. Did you mean 'cifar10'?",
    "subset: 0": "2:11: data.subset: given 0; allowed an integer of 1 or more, or null.",
    "subset: true": "2:11: data.subset: given true; allowed an integer of 1 or more, or null.",
    "subset: 3.5": "2:11: data.subset: given 3.5; allowed an integer of 1 or more, or null.",
    "subset: 3.0": "2:11: data.subset: given 3.0; allowed an integer of 1 or more, or null.",
    'subset: "3"': '2:11: data.subset: given "3"; allowed an integer of 1 or more, or null.',
    "validation: 1.5": "2:15: data.validation: given 1.5; "
    "allowed an integer of 1 or more, a number above 0 and below 1, or null.",
    "root: 3": "2:9: data.root: given 3; allowed a path, or null.",
    "download: yes": "2:13: data.download: given yes; allowed true or false. Did you mean 'true'?",
    "download: 1": "2:13: data.download: given 1; allowed true or false.",
    "augment: {crop: 65}": "2:19: data.augment.crop: given 65; allowed an integer from 0 to 64.",
    "augment: {corp: 4}": "2:13: data.augment.corp: unknown key, given 4; "
    "allowed scale, ratio, crop, flip, autoaugment, cutout, eventdrop. Did you mean 'crop'?",
    "augment:": "2:3: data.augment: given nothing (null); "
    "allowed a mapping with the keys scale, ratio, crop, flip, autoaugment, cutout, eventdrop.",
    "normalise: imagenette": "2:14: data.normalise: given imagenette; allowed one of auto, cifar10, cifar100, "
    "imagenet, none, half, cifar10-std0.2, or a mapping with the keys mean, std. Did you mean 'imagenet'?",
    "normalise: [1]": "2:14: data.normalise: given [1]; allowed one of auto, cifar10, cifar100, "
    "imagenet, none, half, cifar10-std0.2, or a mapping with the keys mean, std.",
    "normalise: {mean: [1, 2, 3]}": "2:3: data.normalise.std: missing; allowed a list, each item a number above 0.",
    "normalise: {mean: [1, 2], std: [1, 1, 1]}": '2:14: data.normalise: given {"mean": [1, 2], "std": [1, 1, 1]}; '
    "allowed one of auto, cifar10, cifar100, imagenet, none, half, cifar10-std0.2, "
    "or a mapping with the keys mean, std.",
    "normalise: {mean: [1, 2, 3], std: [1, 0, 1]}": "2:41: data.normalise.std[1]: given 0; allowed a number above 0.",
    "normalise: {mean: [1, .nan, 3], std: [1, 1, 1]}": "2:25: data.normalise.mean[1]: given .nan; allowed a number. "
    "It must be finite.",
    "path: x": "2:3: data: data.path is for the events, folder and npz data sets; cifar10 is found in data.root.",
    "select: validation": "2:3: data.select is validation, but data.validation keeps no images for it.",
}


@pytest.mark.parametrize(("line", "fault"), CASES.items(), ids=list(CASES))
def test_a_fault_in_the_data_section_stands_at_its_place(tmp_path: Path, line: str, fault: str) -> None:
    rest = "" if line.startswith("dataset") else "  dataset: cifar10\n"
    assert faults_of(tmp_path, f"data:\n  {line}\n{rest}") == [fault]


OTHER = {
    "distill: {epochs: true}": "2:19: distill.epochs: given true; allowed an integer of 0 or more.",
    "distill: {lr: fast}": "2:15: distill.lr: given fast; allowed a number above 0.",
    "distill: {lr: 1e999}": "2:15: distill.lr: given 1e999; allowed a number above 0. It must be finite.",
    "distill: {momentum: 1}": "2:21: distill.momentum: given 1; allowed a number of 0 or more and below 1.",
    "distill: {milestones: [60, x]}": "2:28: distill.milestones[1]: given x; allowed an integer of 1 or more.",
    "distill: {milestones: 60}": "2:23: distill.milestones: given 60; "
    "allowed a list, each item an integer of 1 or more, or null.",
    "distill: {schedule: step}": "2:11: distill: "
    "schedule step needs either milestones or step_every, and only one of them.",
    "distill: {nesterov: true, optimizer: adamw}": "2:11: distill: nesterov is for sgd.",
    "student: {stem_padding: true}": "2:25: student.stem_padding: given true; allowed one of 1, 3, or null.",
    "student: {stem_padding: 1.0}": "2:25: student.stem_padding: given 1.0; allowed one of 1, 3, or null.",
    "student: {tau: 2, decay: 0.1}": "2:19: student: "
    "decay and tau say the same thing (decay = exp(-1/tau)); give one of them.",
    "student: {alpha: 0.3}": "'alpha' is a key of pretrain and of distill.",
    "eval: {epochs: 3}": "'epochs' is a key of teacher and of pretrain and of distill.",
    "student: {data: 3}": "'data' is a key of the top level.",
    "alpha: 0.3": "2:1: alpha: unknown key, given 0.3; "
    "allowed data, teacher, student, init, pretrain, distill, eval, runtime, claims, seed, extends. "
    "'alpha' is a key of pretrain and of distill.",
    "teachr: {}": "Did you mean 'teacher'?",
    "teacher: 3": "2:10: teacher: given 3; allowed a mapping with the keys ",
    "seed: -1": "2:7: seed: given -1; allowed an integer of 0 or more and below 9223372036854775808.",
    "3: 4": "2:1: 3: unknown key, given 4; allowed ",
    "runtime: {device: gpu}": "2:19: runtime.device: given gpu; give auto, cpu, cuda, cuda:N or mps.",
    "student: {arch: spiking-resnet19}": "Did you mean 'spiking-resnet18'?",
}


@pytest.mark.parametrize(("line", "words"), OTHER.items(), ids=list(OTHER))
def test_a_fault_elsewhere_stands_at_its_place(tmp_path: Path, line: str, words: str) -> None:
    (fault,) = faults_of(tmp_path, f"data: {{dataset: cifar10}}\n{line}\n")
    assert fault.startswith("2:")
    assert words in fault


def test_all_faults_of_a_file_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
data:
  dataset: cifar11
  dataset: cifar10
seed: !!python/object/apply:os.system [ls]
distill:
  momentun: 0.9
  lr: -1
  epochs: *ten
"""
    faults = faults_of(tmp_path, text, "eval.split=train", "runtime.threads=0")
    places = ["2:12: ", "3:3: ", "4:7: ", "6:3: ", "7:7: ", "8:11: "]
    assert [f for f, place in zip(faults, places, strict=False) if not f.startswith(place)] == []
    assert faults[1].endswith("'dataset' stands twice in one mapping; first at " + str(tmp_path / "r.yaml") + ":2:3")
    assert faults[2] == "4:7: tag !!python/object/apply:os.system is refused; a recipe holds plain values only"
    assert faults[6:] == [
        "override 'eval.split=train': eval.split: given train; allowed one of test, validation.",
        "override 'runtime.threads=0': runtime.threads: given 0; allowed an integer of 1 or more, or null.",
    ]


def test_a_missing_key_stands_at_its_section_and_a_missing_section_at_the_file(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "\ndata: {}\n")[0].startswith("2:1: data.dataset: missing; allowed one of cifar10")
    assert faults_of(tmp_path, "\nseed: 1\n")[0].startswith("1:1: data: missing; allowed a mapping")


def test_integers_are_taken_for_fractions(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {dataset: cifar10}\ndistill: {alpha: 1, temperature: 4}\n")
    alpha = vars(load_recipe(path).recipe.distill)["alpha"]
    assert (alpha, type(alpha)) == (1.0, float)


def test_the_recipe_of_a_checkpoint_loads_and_its_faults_name_the_checkpoint() -> None:
    recipe = load_recipe("cifar10", ["seed=3", "runtime.precision=fp64", "data.root=/elsewhere"]).recipe
    again = recipe_from_mapping(recipe.portable(), origin="student.safetensors")
    assert again.data.root is None
    assert again.portable() == recipe.portable()
    changed = recipe_from_mapping(recipe.portable(), ["eval.batch_size=7"], origin="student.safetensors")
    assert changed.eval.batch_size == 7
    newer = {**recipe.portable(), "pruning": {"rate": 0.5}}
    with pytest.raises(RecipeError, match=r"^student.safetensors: pruning: unknown key") as caught:
        recipe_from_mapping(newer, origin="student.safetensors")
    assert "another version" in str(caught.value.fix)


def test_a_checkpoint_of_a_users_own_data_asks_for_its_path() -> None:
    recipe = Recipe.model_validate_json('{"data": {"dataset": "npz", "path": "x.npz"}}')
    with pytest.raises(RecipeError, match=r"dataset npz needs data.path"):
        recipe_from_mapping(recipe.portable(), origin="s")
    assert recipe_from_mapping(recipe.portable(), ["data.path=x.npz"], origin="s") == recipe


@pytest.mark.parametrize("bad", [{1: 2}, {"data": {"dataset": object()}}, {"data": b"x"}])
def test_a_mapping_that_is_no_recipe_is_a_recipe_error(bad: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"^s: "):
        recipe_from_mapping(bad, origin="s")


def test_a_mapping_nested_without_end_is_a_recipe_error() -> None:
    bad: dict[str, object] = {}
    bad["data"] = bad
    with pytest.raises(RecipeError, match="nested"):
        recipe_from_mapping(bad, origin="s")
