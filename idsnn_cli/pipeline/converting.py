"""``idsnn convert``: from someone's ResNet to a measured student, by the preset `lossless` and what the file tells."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture, build_description, spiking_names
from idsnn_cli.data import plan_data
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.models import build, per_step, place
from idsnn_cli.pipeline.standalone import data_words, foreign_words
from idsnn_cli.pipeline.steps.pretrain import pretrained_shape
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import LoadedRecipe, load_recipe
from idsnn_cli.results import Result
from idsnn_cli.sources.names import Say, parse_source
from idsnn_cli.sources.opened import Shelf
from idsnn_cli.spiking.precision import computing

PRESET = "presets/lossless"
# Images that each phase sees where nothing is said, and its epochs at least and at most.
_IMAGES, _FEWEST, _MOST = 200_000, 4, 60
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Estimate(Result):
    """How long the training would take on this machine, from one step of each network."""

    pretrain_seconds: Annotated[float, "of the quantised network's training"]
    distill_seconds: Annotated[float, "of the student's training"]

    def words(self) -> str:
        both = self.pretrain_seconds + self.distill_seconds
        parts = f"{spell(self.pretrain_seconds)} quantised, {spell(self.distill_seconds)} spiking"
        return f"training takes about {spell(both)} here ({parts}; measuring not counted)"


def student_words(source: Architecture, where: object) -> list[str]:
    """The overrides that make the preset's student one of the shape of ``source``.

    Raises :class:`MappingError` for a network whose shape no student has.
    """
    if source.spiking is not None:
        raise MappingError(
            f"{where} is a {source.describe()}, which spikes already",
            "Give the ANN it was made of; `idsnn init` with `idsnn distill` starts a student from a spiking network.",
        )
    name = source.name if source.name.startswith("spiking-") else f"spiking-{source.name}"
    widths = source.traits().get("widths")
    options = {"width": widths[0], **source.name_options()} if widths else {}
    if name not in spiking_names() or not _same_shape(source, name, options):
        raise MappingError(
            f"{where} is a {source.describe()}, and there is no student of that shape to convert it to",
            "Use `idsnn init` with a student of another shape and `idsnn distill`.",
        )
    blocks = {} if _takes_membranes(name, source.num_classes) else {"block": "spiking", "threshold": "channel"}
    return [f"student.{key}={value}" for key, value in {"arch": name, **options, **blocks}.items()]


def _takes_membranes(name: str, classes: int) -> bool:
    """Whether a student of this name may have the preset's blocks, which add membranes."""
    try:
        build_description(name, classes, spiking_block="ms")
    except UsageError:
        return False
    return True


def _same_shape(source: Architecture, name: str, options: Mapping[str, Any]) -> bool:
    """Whether a student of this name has every tensor of the network's blocks, and no other."""
    try:
        student = build_description(name, source.num_classes, **options)
    except UsageError:
        return False
    ours, theirs = (
        {
            key: shape
            for key, shape in each.tensors().items()
            if not key.startswith(("input.", "stem.conv")) and "act" not in key
        }
        for each in (student, source)
    )
    return ours == theirs


def recipe_of(
    checkpoint: str,
    data: str,
    timesteps: int,
    normalise: str,
    option_a: str | None,
    words: Sequence[str],
    say: Say | None = None,
) -> LoadedRecipe:
    """The preset for the network in ``checkpoint`` and the images that ``data`` names, with ``words`` on top.

    ``say`` hears of what is fetched. Raises :class:`MappingError` for a network whose shape no student has.
    """
    source = parse_source(checkpoint)
    with Shelf(say).open(source, download=False) as opened:
        shape = student_words(opened.architecture, source)
        foreign = foreign_words(opened, normalise, option_a)
    told = [f"teacher.checkpoint={checkpoint}", f"student.timesteps={timesteps}", *data_words(data), *shape, *foreign]
    images = plan_data(load_recipe(PRESET, [*told, *words]).recipe.data).counts["train"]
    return load_recipe(PRESET, [*told, *epoch_words(images), *words])


def epoch_words(images: int) -> list[str]:
    """As many epochs of each phase as make 200,000 images, but at least 4 and at most 60."""
    epochs = min(max(round(_IMAGES / max(images, 1)), _FEWEST), _MOST)
    return [f"pretrain.epochs={epochs}", f"distill.epochs={epochs}"]


def estimate(workspace: Workspace) -> Estimate:
    """Time a training step of both networks on random images of the data's size, as the run would take it."""
    recipe, images = workspace.recipe, workspace.data_plan.counts["train"]
    classes, channels = workspace.num_classes, workspace.in_channels
    quantised = pretrained_shape(recipe, classes, channels), recipe.pretrain
    student = recipe.student.architecture(classes, channels), recipe.distill
    ann, spiking = (
        section.epochs * images / _images_per_second(workspace, each, section.batch_size)
        for each, section in (quantised, student)
    )
    return Estimate(round(ann, 1), round(spiking, 1))


def _images_per_second(workspace: Workspace, architecture: Architecture, batch_size: int) -> float:
    """How many images a second a training with ``batch_size`` takes, its teacher's part not counted."""
    model = build(architecture, 0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(".limit"):
                value.fill_(1.0)
    place(model, workspace.device, workspace.dtype)
    model.train()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch_size, architecture.in_channels, *workspace.image_size), generator=generator)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=workspace.device)
    images = images.to(workspace.device)

    def step() -> float:
        started = time.perf_counter()
        with computing(workspace.precision, workspace.device):
            loss = F.cross_entropy(per_step(model(images)).float().mean(0), labels)
        torch.autograd.backward(loss)
        loss.item()  # waits for the device
        return time.perf_counter() - started

    # The first is slower, and so is any that something else ran beside.
    return batch_size / min([step() for _ in range(_STEPS)][1:])


def spell(seconds: float) -> str:
    """``1 h 20 min``, ``34 min`` or ``50 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
