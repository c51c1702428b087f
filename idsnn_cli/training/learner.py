"""The student together with what only its training has: the unit that is optimised, and shared between processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from idsnn_cli.models import ResNet, per_step
from idsnn_cli.seeding import derive_seed
from idsnn_cli.training.features import attention_distance, feature_mse
from idsnn_cli.training.objective import Objective


class Learner(nn.Module):
    """``model``, and where the objective asks for ``mse`` a 1x1 convolution behind each stage, ``alignment``.

    An alignment brings the student's channels to the teacher's. It is trained like any kernel and kept in the resume
    state, but is none of the student's. Its first values are drawn from ``seed`` by its name alone, uniform within
    1 / sqrt(C_in).
    """

    def __init__(self, model: ResNet, objective: Objective, seed: int) -> None:
        super().__init__()
        self.model = model
        self.features = objective.features
        self.alignment = nn.ModuleList()
        if self.features == "mse":
            assert isinstance(objective.teacher, ResNet)
            channels = zip(_channels(model), _channels(objective.teacher), strict=True)
            self.alignment.extend(_alignment(seed, stage, *each) for stage, each in enumerate(channels))

    def forward(self, images: Tensor, teacher_maps: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor | None]:
        """The student's logits (T, N, K), and its feature term summed over the images, None where there is none.

        ``teacher_maps`` are what the teacher's stages gave for the same images.
        """
        if self.features == "none":
            return per_step(self.model(images)), None
        logits, maps = self.model.with_features(images)
        if self.features == "mse":
            aligned = [align(each) for align, each in zip(self.alignment, maps, strict=True)]
            return per_step(logits), feature_mse(zip(aligned, teacher_maps, strict=True))
        return per_step(logits), attention_distance(zip(maps, teacher_maps, strict=True))


def _channels(model: ResNet) -> list[int]:
    return [width * model.architecture.expansion for width in model.architecture.widths]


def _alignment(seed: int, stage: int, entry: int, out: int) -> nn.Conv2d:
    with torch.device("meta"):
        align = nn.Conv2d(entry, out, 1, bias=False)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", f"alignment.{stage}.weight"))
    bound = 1.0 / math.sqrt(entry)
    align.weight = nn.Parameter(torch.empty(out, entry, 1, 1).uniform_(-bound, bound, generator=generator))
    return align
