"""What a training minimises: the losses added up, and the student with what only they need as one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from idsnn_cli.models import Model, per_step
from idsnn_cli.training.losses import Channels, Loss, Seen, terms, wide


class Lesson(NamedTuple):
    """What the teacher makes of a batch: its logits (N, K), and the maps behind its stages where they are asked for."""

    logits_NK: Tensor
    maps: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum of its terms, in their order; by default the cross-entropy alone. ``teacher`` is what they may read, and
    ``class_weights`` (K,) what an image of each class counts where a term weighs them.
    """

    terms: tuple[Loss, ...] = field(default_factory=lambda: terms({}))
    teacher: nn.Module | None = None
    class_weights: Tensor | None = None

    @classmethod
    def of(cls, section: Mapping[str, Any], *, teacher: nn.Module | None = None, taught: bool = True) -> Objective:
        """The losses that take part with the keys and values of a recipe's ``section``.

        Those that read a teacher are left out where the training is not ``taught``.
        """
        return cls(terms(section, taught=taught), teacher)

    @property
    def reads_maps(self) -> bool:
        """Whether a term compares what stands behind the stages with the teacher's."""
        return any(term.reads == "maps" for term in self.terms)

    @property
    def sees_maps(self) -> bool:
        """Whether a term sees what stands behind the student's stages."""
        return self.reads_maps or any(term.watches for term in self.terms)

    @torch.no_grad()
    def teach(self, images: Tensor) -> Lesson | None:
        """The teacher's lesson on the same augmented images: one forward pass, without a graph.

        None where nothing reads one.
        """
        if self.teacher is None or all(term.reads == "nothing" for term in self.terms):
            return None
        if not self.reads_maps:
            return Lesson(per_step(self.teacher(images)).float().mean(0))
        assert isinstance(self.teacher, Model)
        logits, maps = self.teacher.with_features(images)
        return Lesson(per_step(logits).float().mean(0), maps)

    def __call__(
        self,
        logits_TNK: Tensor,
        labels_N: Tensor,
        lesson: Lesson | None,
        global_size: int,
        maps: tuple[Tensor, ...] = (),
        modules: Mapping[str, nn.Module] | None = None,
    ) -> Tensor:
        """This process's share of the loss: the sum over its images divided by the global batch's size.

        ``maps`` are those behind the student's stages where a term reads them, and ``modules`` those of the terms, by
        their names. Without a ``lesson`` the terms that read one are left out.
        """
        teacher_NK, teacher_maps = (None, ()) if lesson is None else lesson
        seen = Seen(wide(logits_TNK), labels_N, maps, teacher_NK, teacher_maps, self.class_weights)
        total: Tensor | None = None
        for term in self.terms:
            if lesson is not None or term.reads == "nothing":
                value = term.value(seen, (modules or {}).get(term.name))
                total = value if total is None else term.added(total, value)
        assert total is not None  # the cross-entropy is in every loss
        return total / global_size


class Learner(nn.Module):
    """``model``, and the modules of the objective's terms, ``losses``: trained and shared between processes as one.

    Those are trained like any kernel and kept in the resume state, but are none of the student's; their first values
    are drawn from ``seed``.
    """

    def __init__(self, model: Model, objective: Objective, seed: int) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.losses = nn.ModuleDict()
        teacher = objective.teacher
        of_teacher = _channels(teacher) if isinstance(teacher, Model) else ()
        channels = Channels(_channels(model), of_teacher, model.architecture.num_classes)
        for term in objective.terms:
            modules = term.modules(channels, seed)
            if modules is not None:
                self.losses[term.name] = modules

    def forward(self, images: Tensor, labels: Tensor, lesson: Lesson | None, global_size: int) -> tuple[Tensor, Tensor]:
        """The student's logits (T, N, K), and this process's share of the loss (see :class:`Objective`)."""
        maps: tuple[Tensor, ...] = ()
        if self.objective.sees_maps:
            logits, maps = self.model.with_features(images)
        else:
            logits = self.model(images)
        logits_TNK = per_step(logits)
        return logits_TNK, self.objective(logits_TNK, labels, lesson, global_size, maps, dict(self.losses.items()))


def _channels(model: Model) -> tuple[int, ...]:
    return tuple(model.architecture.stage_channels(stage) for stage in range(len(model.architecture.depths)))


@contextmanager
def frozen(model: Model) -> Iterator[Model]:
    """The teacher while it teaches: evaluation mode, no gradients; as before afterwards."""
    was_training = model.training
    flags = [p.requires_grad for p in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        model.train(was_training)
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
