"""The recipe's ``init`` section."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from idsnn_cli.errors import UsageError
from idsnn_cli.recipe.values import NetworkSource, Positive, Rate, Section
from idsnn_cli.rules import (
    BEST,
    BEST_REESTIMATE,
    PERCENTILE,
    BareShortcutRule,
    BlockRule,
    BottleneckRule,
    ChannelRule,
    Convert,
    HeadRule,
    KernelRule,
    Multiplicity,
    Rescale,
    Rules,
    ShortcutRule,
)


class Init(Section):
    """How the student's first weights come from ``source`` (by default the teacher).

    ``rule`` stands for a whole set of the other keys: ``loop`` is the paper's, ``best`` the one that started best in
    the benchmark, ``none`` takes nothing; what is given beside it replaces its own. ``reestimate`` and ``calibrate``
    count batches, ``images`` the training images that are shown to a network where a rule looks at it running.
    ``convert`` scales the weights so that rates are activations, and ``calibrate`` then corrects each channel's bias.
    """

    rule: Literal["loop", "best", "none"] = "loop"
    blocks: BlockRule | tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] = "proportional"
    channels: ChannelRule = "loop"
    multiplicity: Multiplicity = "ignore"
    noise: Rate = 0.0
    kernels: KernelRule = "centre"
    bottleneck: BottleneckRule = "fold"
    shortcut: ShortcutRule = "copy"
    bare_shortcut: BareShortcutRule = "random"
    head: HeadRule = "random"
    class_map: tuple[Annotated[int, Field(ge=0)] | None, ...] = ()
    rescale: Rescale = "none"
    convert: Convert = "none"
    percentile: Annotated[float, Field(gt=0, le=100)] = PERCENTILE
    reestimate: Annotated[int, Field(ge=0)] = 0
    calibrate: Annotated[int, Field(ge=0)] = 0
    images: Positive = 512
    source: NetworkSource | None = None

    @model_validator(mode="after")
    def _whole_rule(self) -> Self:
        defaults = {field.name: getattr(BEST, field.name) for field in fields(BEST)} | {"reestimate": BEST_REESTIMATE}
        for key, value in defaults.items():
            if self.rule == "best" and key not in self.model_fields_set:
                object.__setattr__(self, key, value)  # frozen once it is made
        if self.rule == "none":
            for key in (*defaults, "source"):
                if key != "reestimate" and getattr(self, key) != Init.model_fields[key].default:
                    raise ValueError(f"{key} is for a start from a source; rule none takes nothing")
        if self.calibrate and self.convert == "none":
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
        rules = self.rules()
        return replace(rules.unscaled(), rescale="variance" if rules.rescale == "variance" else "none")

    def rules(self) -> Rules:
        return Rules(**{field.name: getattr(self, field.name) for field in fields(Rules)})
