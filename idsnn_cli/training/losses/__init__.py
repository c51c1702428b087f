"""The terms of the loss: one file each, with its keys in a recipe, what it reads of the teacher, and its value.

A file holds one :class:`Loss` with its settings at their defaults. It is found by its name and nowhere listed: its
keys stand in the sections of a recipe, it is checked, trained, resumed and recorded with what is here. Nothing imports
torch before a value is worked out, so that a recipe can be checked without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from idsnn_cli.registry import entries

if TYPE_CHECKING:
    from torch import Tensor, nn

SectionName = Literal["teacher", "pretrain", "distill"]
Reads = Literal["nothing", "logits", "maps"]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class In:
    """Stands in the annotation of a key that has its place in other sections than ``distill`` alone."""

    sections: tuple[SectionName, ...]


class Seen(NamedTuple):
    """What a term sees of one batch: of the student, of the labels, and of the teacher where one teaches.

    Logits are (T, N, K) and the teacher's (N, K), in float32 at least; labels int64 (N,). Maps are those behind each
    stage, (N, C, H, W), a spiking network's its firing rates, and only there where a term reads or watches maps.
    ``weights_K`` are those of the classes, only there where they count differently.
    """

    logits_TNK: Tensor
    labels_N: Tensor
    maps: tuple[Tensor, ...] = ()
    teacher_NK: Tensor | None = None
    teacher_maps: tuple[Tensor, ...] = ()
    weights_K: Tensor | None = None


class Channels(NamedTuple):
    """The channels of the maps behind each stage of both networks, none of a teacher that there is not, and the classes
    K of the student.
    """

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    classes: int


class Loss(BaseModel, ABC):
    """One term. Its fields are the keys of a recipe that it reads: type, bounds, default, and words as a description.

    The first is its own: only sections that have it can have the term. Others may be of several losses (``loss_on``),
    declared alike. A subclass gives ``takes_part`` and ``value``, and what of the rest differs. ``order`` is its place
    in the sum (ties by name; in another order it would round otherwise). ``always`` says that it is in every loss,
    whatever the section. ``reads`` says what it needs of a teacher, ``watches`` that it looks at the student's own maps
    without one, and ``off_value`` is the first key's value that turns it off.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    order: ClassVar[int] = 100
    always: ClassVar[bool] = False
    reads: ClassVar[Reads] = "nothing"
    watches: ClassVar[bool] = False
    off_value: ClassVar[str] = "0"

    @property
    def name(self) -> str:
        """Its file's."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @property
    def key(self) -> str:
        """The first of its keys."""
        return next(iter(type(self).model_fields))

    def check(self) -> None:
        """Raise :class:`ValueError` where its settings do not go together."""

    @abstractmethod
    def takes_part(self) -> bool:
        """Whether the term is in the loss, with these settings."""

    def modules(self, channels: Channels, seed: int) -> nn.Module | None:
        """What is trained with the student and kept in the resume state, but none of the student's.

        Its first values come from ``seed`` and names of its own alone, whatever else is drawn.
        """
        return None

    @abstractmethod
    def value(self, seen: Seen, modules: Any) -> Tensor:
        """The term, summed over the images of the batch, of which there may be none; ``modules`` are those it made."""

    def added(self, total: Tensor, value: Tensor) -> Tensor:
        """``total``, the terms before it, with its ``value`` in it, weighted as its settings say."""
        return total + value

    def off(self, section: str) -> str:
        """The override that turns it off: ``distill.alpha=0``."""
        return f"{section}.{self.key}={self.off_value}"

    def on(self, section: str) -> str:
        """What turned it on: ``distill.features mse``."""
        return f"{section}.{self.key} {getattr(self, self.key)}"


# What several terms are about.
LossOn = Annotated[
    Literal["mean", "steps"],
    Field(description="The loss of the time-mean logits (the paper), or the mean of every step's loss."),
]


@cache
def losses() -> tuple[Loss, ...]:
    """Every loss there is, in the order of the sum."""
    return tuple(sorted(entries(__name__, Loss).values(), key=lambda loss: (loss.order, loss.name)))


def terms(section: Mapping[str, Any], *, taught: bool = True) -> tuple[Loss, ...]:
    """The losses that take part with the settings of ``section``, in the order of the sum.

    Without a teacher (``taught``) those that read one are left out.
    """
    found = [loss for loss in _with(section) if loss.takes_part()]
    return tuple(loss for loss in found if taught or loss.reads == "nothing")


def _with(section: Mapping[str, Any]) -> list[Loss]:
    """The losses that the section can have, with its settings."""
    there = [loss for loss in losses() if loss.always or loss.key in section]
    return [type(loss).model_validate(dict(section)) for loss in there]


def teaching_terms(section: Mapping[str, Any]) -> tuple[Loss, ...]:
    """Those of :func:`terms` that read a teacher."""
    return tuple(loss for loss in terms(section) if loss.reads != "nothing")


def check(section: Mapping[str, Any]) -> None:
    """Raise :class:`ValueError` where the settings of the losses in ``section`` do not go together."""
    for loss in _with(section):
        loss.check()


def teachers_keys() -> tuple[str, ...]:
    """The keys of ``distill`` that nothing reads where there is no teacher."""
    read = {key for loss in losses() if loss.reads == "nothing" for key in type(loss).model_fields}
    found = (key for loss in losses() if loss.reads != "nothing" for key in type(loss).model_fields)
    return tuple(key for key in dict.fromkeys(found) if key not in read)


def with_keys(section: SectionName) -> Callable[[type[Model]], type[Model]]:
    """Decorates the model of a recipe's section: the keys that losses have there come behind its own.

    What several losses choose between by one key (``features``) becomes one key that takes any of their names. Raises
    :class:`TypeError`, a fault of who added a loss, for a key that means something else already.
    """

    def decorate(model: type[Model]) -> type[Model]:
        fields: dict[str, Any] = {}
        declared: dict[str, tuple[Any, ...]] = {}
        for loss in losses():
            for key, info in type(loss).model_fields.items():
                places = next((each.sections for each in info.metadata if isinstance(each, In)), ("distill",))
                if section not in places:
                    continue
                if key in model.model_fields:
                    raise TypeError(f"the key {key} of the loss {loss.name} is one that {section} has of its own")
                said = (info.annotation, info.default, info.description)
                if declared.setdefault(key, said) != said:
                    raise TypeError(f"the key {key} of the loss {loss.name} is another loss's, declared otherwise")
                if key not in fields:
                    metadata = (each for each in info.metadata if not isinstance(each, In))
                    choices = [each.name for each in losses() if (each.key, each.off_value) == (key, "none")]
                    kind: Any = Literal[("none", *choices)] if choices else info.annotation
                    annotated: Any = Annotated[(kind, *metadata, Field(description=info.description))]
                    fields[key] = (annotated, info.default)
        # Type checkers know the section by its own keys; those of losses are read by losses.
        return create_model(
            model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **fields
        )

    return decorate


def wide(values: Tensor) -> Tensor:
    """``values`` in float32 at least: exponentials, squares and sums are not for half precision."""
    import torch

    return values.to(torch.promote_types(values.dtype, torch.float32))
