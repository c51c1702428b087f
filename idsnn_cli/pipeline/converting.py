"""``idsnn convert``: from someone's ResNet to a measured student, by the preset `lossless` and what the file tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture, build_description, spiking_names
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.models import Model, build, place
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.results import Result

PRESET = "presets/lossless"
# Images that each phase sees where nothing is said, and its epochs at least and at most.
_IMAGES, _FEWEST, _MOST = 200_000, 4, 60
_TIMED = 16  # images of a timed step


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
    name = source.name if source.name.startswith("spiking-") else f"spiking-{source.name}"
    widths = source.traits().get("widths")
    options = {"width": widths[0], **source.name_options()} if widths else {}
    if source.spiking is not None or name not in spiking_names() or not _same_shape(source, name, options):
        raise MappingError(
            f"{where} is a {source.describe()}, and there is no student of that shape to convert it to",
            "Use `idsnn init` with a student of another shape and `idsnn distill`.",
        )
    return [f"student.{key}={value}" for key, value in {"arch": name, **options}.items()]


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


def epoch_words(images: int) -> list[str]:
    """As many epochs of each phase as make 200,000 images, but at least 4 and at most 60."""
    epochs = min(max(round(_IMAGES / max(images, 1)), _FEWEST), _MOST)
    return [f"pretrain.epochs={epochs}", f"distill.epochs={epochs}"]


def estimate(workspace: Workspace) -> Estimate:
    """Time a training step of both networks on random images of the data's size, on the run's device."""
    recipe, images = workspace.recipe, workspace.data_plan.counts["train"]
    student = recipe.student.architecture(workspace.num_classes)
    quantised = recipe.student.ann(workspace.num_classes)
    rates = [_images_per_second(workspace, each) for each in (quantised, student)]
    epochs = (recipe.pretrain.epochs, recipe.distill.epochs)
    ann, spiking = (count * images / rate for count, rate in zip(epochs, rates, strict=True))
    return Estimate(round(ann, 1), round(spiking, 1))


def _images_per_second(workspace: Workspace, architecture: Architecture) -> float:
    model = build(architecture, 0)
    place(model, workspace.device)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((_TIMED, architecture.in_channels, *workspace.image_size), generator=generator)
    labels = torch.zeros(_TIMED, dtype=torch.int64, device=workspace.device)
    images = images.to(workspace.device)
    # The first is slower, and so is any that something else ran beside.
    return _TIMED / min([_step(model, images, labels) for _ in range(5)][1:])


def _step(model: Model, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds of one step forward and backward."""
    started = time.perf_counter()
    logits = model.train()(images)
    loss = F.cross_entropy(logits.mean(0) if logits.dim() == 3 else logits, labels)
    torch.autograd.backward(loss)
    loss.item()  # waits for the device
    return time.perf_counter() - started


def spell(seconds: float) -> str:
    """``1 h 20 min``, ``34 min`` or ``50 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
