"""The recipe's ``init`` section: the mapping rules of ``idsnn_cli/rules.py``, and what goes with them."""

from __future__ import annotations

import types
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import Field, create_model, model_validator

from idsnn_cli.errors import UsageError
from idsnn_cli.recipe.values import NetworkSource, Positive, Section
from idsnn_cli.rulebook import NONE
from idsnn_cli.rules import BEST, BEST_REESTIMATE, OF_RULES, OPTIONS, Rules, choices, kind_of


class _Named(Section):
    rule: Annotated[Literal["loop", "best", "none"], OPTIONS["rule"]] = "loop"


def _field(key: str) -> tuple[Any, Any]:
    """An option of the rules as a field: its type in pydantic's words, and its default."""
    option = OF_RULES[key]
    bounds = {name: bound for name in ("ge", "gt", "le") if (bound := getattr(option, name)) is not None}
    return Annotated[_checked(kind_of(key), choices(key)), Field(**bounds), option], getattr(Rules(), key)


def _checked(kind: Any, names: tuple[str, ...]) -> Any:
    """``kind`` with text as one of ``names``, and whole numbers, the places of blocks and classes, from 0."""
    inner = [each if each is Ellipsis else _checked(each, names) for each in get_args(kind)]
    if kind is str:
        return Literal[names]
    if kind is int:
        return Annotated[int, Field(ge=0)]
    if get_origin(kind) is tuple:
        return tuple.__class_getitem__(tuple(inner))
    return reduce(or_, inner) if get_origin(kind) in (Union, types.UnionType) else kind


if TYPE_CHECKING:

    class _Mapped(_Named):
        def __getattr__(self, key: str) -> Any:
            """The keys of :class:`Rules`, for which fields are made below."""

else:
    _Mapped = create_model("_Mapped", __base__=_Named, **{key: _field(key) for key in OF_RULES})


class Init(_Mapped):
    """How the student's first weights come from ``source`` (by default the teacher).

    ``rule`` stands for a whole set of the other keys: ``loop`` is the paper's, ``best`` the one that started best in
    the benchmark, ``none`` takes nothing; what is given beside the first two replaces their own, and beside the
    last, but for ``random`` and ``reestimate``, says nothing. ``reestimate`` and ``calibrate`` count batches,
    ``images`` the training images that are shown to a network where a rule looks at it running.
    ``convert`` scales the weights so that rates are activations, and ``calibrate`` then corrects each channel's bias.
    The keys of :class:`Rules` are fields, too.
    """

    reestimate: Annotated[int, Field(ge=0), OPTIONS["reestimate"]] = 0
    calibrate: Annotated[int, Field(ge=0), OPTIONS["calibrate"]] = 0
    images: Annotated[Positive, OPTIONS["images"]] = 512
    source: Annotated[NetworkSource | None, OPTIONS["source"]] = None

    @model_validator(mode="after")
    def _whole_rule(self) -> Self:
        defaults = {key: getattr(BEST, key) for key in OF_RULES} | {"reestimate": BEST_REESTIMATE}
        for key, value in defaults.items():
            if self.rule == "best" and key not in self.model_fields_set:
                object.__setattr__(self, key, value)  # frozen once it is made
        if self.rule == "none":
            # Those of a preset or of a grid's other runs say how to take what this one does not.
            for key in (*OF_RULES, "calibrate", "source"):
                if key == "random":
                    continue
                object.__setattr__(self, key, Init.model_fields[key].default)
        if self.calibrate and self._mapping()["convert"] == NONE:
            raise ValueError("calibrate is for a converted network; give convert with it")
        try:
            self.rules()
        except UsageError as error:
            raise ValueError(f"{error.message}. {error.fix}") from None
        return self

    @property
    def looks_at_images(self) -> bool:
        """Whether training images may have a part in the first weights, beside those of ``rule`` none."""
        return self.reestimate > 0 or self.calibrate > 0 or self.rules().looks_at_activations

    def shaping(self) -> Rules:
        """The rules by which an ANN of the student's shape is made: all but what fits weights to spikes."""
        return self.rules().of_shape()

    def rules(self) -> Rules:
        return Rules(**self._mapping())

    def _mapping(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in OF_RULES}
