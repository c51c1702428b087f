"""No option is read and ignored: each one changes the numbers that it is about, or is shown to change none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import distill_step, history, init_step, metadata_of, open_run, teacher_step, weights_of, write_recipe

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.models import build
from idsnn_cli.pipeline.run import run_all

pytestmark = pytest.mark.slow

Weights = dict[str, bytes]
WEIGHTY = "distill.weight_decay=0.05"
TRAINING = [
    "epochs=1",
    "batch_size=16",
    "optimizer=adamw",
    "lr=0.01",
    "momentum=0.5",
    "nesterov=true",
    "weight_decay=0.05",
    "schedule=constant",
    "schedule=onecycle",
    "schedule=step {}.milestones=[1]",
    "schedule=step {}.step_every=1",
    "warmup_epochs=1",
    "label_smoothing=0.1",
    "clip_norm=0.01",
]
DATA = [
    "seed=1",
    "data.subset=60",
    "data.validation=20",
    "data.augment.crop=0",
    "data.augment.flip=true",
    "data.augment.cutout=8",
    "data.augment.autoaugment=cifar10",
    "runtime.precision=fp64",
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def base(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("base")
    run_all(open_run(recipe, run_dir))
    return run_dir


def distilled(recipe: Path, base: Path, run_dir: Path, *words: str) -> Weights:
    """The student of the base run's teacher and first weights, trained by another recipe."""
    session = open_run(recipe, run_dir, *words)
    distill_step(session, teacher=base / "teacher.safetensors", student=base / "init.safetensors")
    return weights_of(run_dir / "student.safetensors")


@pytest.mark.parametrize(
    "option",
    [
        *DATA[:-1],
        *(f"distill.{each}" for each in TRAINING),
        "distill.alpha=0",
        "distill.alpha=1",
        "distill.temperature=1",
        "distill.loss_on=steps",
    ],
)
def test_an_option_of_the_training_changes_the_student(recipe: Path, base: Path, tmp_path: Path, option: str) -> None:
    words = option.format("distill").split()
    found = distilled(recipe, base, tmp_path, *words)
    assert found.keys() == weights_of(base / "student.safetensors").keys()
    for name in ("head.weight", "stages.2.0.norm1.weight"):
        assert found[name] != weights_of(base / "student.safetensors")[name]


@pytest.mark.parametrize("option", [*DATA, "data.normalise=cifar10", "teacher.lr=0.01", "teacher.label_smoothing=0.1"])
def test_an_option_of_the_training_changes_the_teacher(recipe: Path, base: Path, tmp_path: Path, option: str) -> None:
    teacher_step(open_run(recipe, tmp_path, *option.format("teacher").split()))
    found = weights_of(tmp_path / "teacher.safetensors")
    assert found["head.weight"] != weights_of(base / "teacher.safetensors")["head.weight"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([WEIGHTY], [WEIGHTY, "distill.decay_norm_and_bias=false"]),
        (["distill.schedule=step", "distill.step_every=1"], ["distill.schedule=step", "distill.milestones=[1]"]),
        (
            ["distill.schedule=step", "distill.step_every=1"],
            ["distill.schedule=step", "distill.step_every=1", "distill.gamma=0.5"],
        ),
    ],
    ids=["decay_norm_and_bias", "milestones", "gamma"],
)
def test_options_that_need_another(
    recipe: Path, base: Path, tmp_path: Path, first: list[str], second: list[str], request: pytest.FixtureRequest
) -> None:
    pair = [distilled(recipe, base, tmp_path / str(i), *words) for i, words in enumerate((first, second))]
    # Two epochs with one drop after the first are the same, however the drop is written.
    assert (pair[0] == pair[1]) == ("milestones" in request.node.name)


@pytest.mark.parametrize(
    "words",
    [
        ["student.timesteps=3"],
        ["student.v_threshold=1"],
        ["student.decay=0.5"],
        ["student.tau=2"],
        ["student.surrogate=triangle"],
        ["student.surrogate=sigmoid"],
        ["student.surrogate=arctan"],
        ["student.surrogate=dspike"],
        ["student.surrogate_scale=0.25"],
        ["student.coding=poisson"],
        ["student.block=sew"],
        ["student.block=sew", "student.join=and"],
        ["student.block=sew", "student.join=iand"],
        ["student.block=ms"],
        ["init.head=copy"],
        ["init.shortcut=random"],
        ["init.reestimate=2"],
        ["init.rule=none"],
        ["init.reestimate=2", "distill.batch_size=16"],
    ],
    ids=" ".join,
)
def test_an_option_of_the_student_or_its_start_changes_the_student(
    recipe: Path, base: Path, tmp_path: Path, words: list[str]
) -> None:
    session = open_run(recipe, tmp_path, *words)
    init_step(session, source=base / "teacher.safetensors")
    distill_step(session, teacher=base / "teacher.safetensors")
    found = weights_of(tmp_path / "student.safetensors")
    assert found != weights_of(base / "student.safetensors")
    key, _, value = words[0].partition("=")
    if key == "student.block":
        assert metadata_of(tmp_path / "student.safetensors")["architecture"]["spiking_block"] == value


@pytest.mark.parametrize("key", ["stem=3x3", "shortcut=pad", "width=8", "arch={}resnet14"])
def test_the_shape_of_the_networks_is_the_recipes(recipe: Path, tmp_path: Path, key: str) -> None:
    words = [f"teacher.{key.format('')}", f"student.{key.format('spiking-')}", "teacher.epochs=1"]
    teacher_step(open_run(recipe, tmp_path, *words))
    init_step(open_run(recipe, tmp_path, *words))
    changed: dict[str, dict[str, Any]] = {
        "stem=3x3": {"stem": "3x3"},
        "shortcut=pad": {"shortcut": "pad"},
        "width=8": {"width": 8},
        "arch={}resnet14": {"name": "resnet14"},
    }
    options: dict[str, Any] = {"name": "resnet8", "width": 4, "stem": "7x7"} | changed[key]
    name = options.pop("name")
    more: dict[str, Any] = {"timesteps": 2}
    for file, expected in (
        ("teacher", build_description(name, 10, **options)),
        ("init", build_description(f"spiking-{name}", 10, **options, **more)),
    ):
        assert metadata_of(tmp_path / f"{file}.safetensors")["architecture"] == expected.to_dict()


# Option of the mapping -> a tensor of the start that it changes.
MAPPING = {
    "init.blocks=first": "stages.0.1.conv1.weight",
    "init.blocks=last": "stages.0.1.conv1.weight",
    "init.blocks=ends": "stages.0.1.conv1.weight",
    "init.blocks=greedy": "stages.0.1.conv1.weight",
    "init.blocks=[[0,1],[0,1],[0,1]]": "stages.0.1.conv1.weight",
    "init.channels=uniform": "stem.conv.weight",
    "init.channels=importance": "stem.conv.weight",
    "init.channels=merge": "stem.conv.weight",
    "init.channels=random": "stem.conv.weight",
    "init.multiplicity=divide student.width=12": "stages.0.0.conv0.weight",
    "init.noise=0.1 student.width=12": "stages.0.0.conv0.weight",
    "student.stem=3x3 init.kernels=area": "stem.conv.weight",
    "init.rescale=variance": "stem.conv.weight",
    "init.rescale=threshold": "stem.norm.weight",
    "init.rescale=threshold init.percentile=50": "stem.norm.weight",
    "init.shortcut=random": "stages.1.0.shortcut.conv.weight",
    "init.head=copy": "head.weight",
    "init.head=match": "head.weight",
    "init.head=map init.class_map=[9,8,7,6,5,4,3,2,1,0]": "head.weight",
    "init.reestimate=1": "stem.norm.running_mean",
    "init.rule=best": "stem.conv.weight",
    "seed=1": "head.weight",
}


@pytest.fixture(scope="module")
def foreign_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deeper and wider source whose channels are not all alike."""
    path = tmp_path_factory.mktemp("mapping") / "source.safetensors"
    deep = build_description("resnet32", 10, width=8, stem="7x7")
    state = build(deep, 0).state_dict()
    generator = torch.Generator().manual_seed(4)
    for name, value in state.items():
        if ".norm" in name and name.endswith("weight"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    write_checkpoint(path, state, {"kind": "teacher", "architecture": deep.to_dict()})
    return path


@pytest.mark.parametrize("option", MAPPING)
def test_an_option_of_the_mapping_changes_the_start(
    recipe: Path, tmp_path: Path, foreign_source: Path, option: str
) -> None:
    # Of five source blocks, a stage of two takes 0 and 2, or by the other rules 0 and 1, or 0 and 4.
    found = []
    rest = [word for word in option.split() if not word.startswith("init.") and word != "seed=1"]
    for number, words in enumerate((rest, option.split())):
        session = open_run(recipe, tmp_path / str(number), "student.arch=spiking-resnet14", "init.images=40", *words)
        init_step(session, source=foreign_source)
        found.append(weights_of(tmp_path / str(number) / "init.safetensors"))
    differing = {name for name in found[0] if found[0][name] != found[1][name]}
    assert MAPPING[option] in differing
    assert "input.mean" not in differing


@pytest.mark.parametrize(
    "option",
    [
        "runtime.save_every_minutes=0.00001",
        "runtime.max_memory_gb=1",
        "distill.keep=best",
        "distill.baseline=plain",
        "distill.evaluate_every=2",
        "data.test_subset=30",
        "eval.batch_size=7",
        "eval.split=test",
    ],
)
def test_what_is_not_about_the_training_changes_no_weight(
    recipe: Path, base: Path, tmp_path: Path, option: str
) -> None:
    assert distilled(recipe, base, tmp_path, option) == weights_of(base / "student.safetensors")
    measured = [line["epoch"] for line in history(tmp_path, "distill") if "test_top1" in line]
    assert measured == ([2] if "evaluate_every" in option else [1, 2])
