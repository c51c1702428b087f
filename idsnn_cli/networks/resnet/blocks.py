"""The blocks of ResNets, and the ways around them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from idsnn_cli.architecture.parts import Convolution
from idsnn_cli.networks.resnet.part import Part

# What a stage repeats


@dataclass(frozen=True, slots=True)
class Block(Part):
    """A residual block. With ``preactivation`` (v2) BatchNorm and activation stand before each of its convolutions, and
    the network ends in a norm of its own where ``final_norm`` says so. With ``membranes`` the activation stands before
    and BatchNorm behind, as in MS blocks, and the network ends in an activation: an ANN that becomes a student of them.
    """

    preactivation: bool
    final_norm: bool
    membranes: bool

    expansion: ClassVar[int]
    length: ClassVar[int]

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls(traits["preactivation"], traits["final_norm"], traits["membranes"])

    def traits(self) -> dict[str, Any]:
        order = {"preactivation": self.preactivation, "final_norm": self.final_norm, "membranes": self.membranes}
        return {"block": self.kind, **order}

    def inner(self, stage: int, widths: tuple[int, ...]) -> int:
        """Channels between its convolutions."""
        return widths[stage]

    @abstractmethod
    def sizes(self, entry: int, inner: int, outer: int, stride: int) -> list[tuple[int, int, int, int, int]]:
        """(channels in, channels out, kernel, stride, groups) of its convolutions, in order."""

    def convolutions(
        self, stage: int, block: int, entry: int, widths: tuple[int, ...], stride: int
    ) -> tuple[Convolution, ...]:
        """Those of the main path, in order; the block reads ``entry`` channels."""
        at = f"stages.{stage}.{block}"
        sizes = self.sizes(entry, self.inner(stage, widths), widths[stage] * self.expansion, stride)
        where, first = (stage, block), self.preactivation
        return tuple(
            Convolution(f"{at}.conv{i}", f"{at}.norm{i}", c_in, c_out, kernel, step, kernel // 2, *where, groups, first)
            for i, (c_in, c_out, kernel, step, groups) in enumerate(sizes)
        )

    def halves_inside(self, stride: int) -> bool:
        """Whether the mean of 2x2 pixels stands behind its second convolution."""
        return False

    def order_words(self) -> list[str]:
        """What stands before what, where that is not as usual, in words."""
        if self.membranes:
            return ["activations before convolutions (MS)"]
        return ["pre-activation" + ("" if self.final_norm else " without a last norm")] if self.preactivation else []


@dataclass(frozen=True, slots=True)
class BasicBlock(Block):
    """Two 3x3 convolutions."""

    kind: ClassVar[str] = "basic"
    spiking: ClassVar[bool] = True
    expansion: ClassVar[int] = 1
    length: ClassVar[int] = 2

    def sizes(self, entry: int, inner: int, outer: int, stride: int) -> list[tuple[int, int, int, int, int]]:
        return [(entry, outer, 3, stride, 1), (outer, outer, 3, 1, 1)]


@dataclass(frozen=True, slots=True)
class BottleneckBlock(Block):
    """1x1, 3x3 of ``groups`` groups (ResNeXt) and 1x1; ``inner_widths`` by stage where they are not the usual quarter
    of the output's. It strides in the 3x3 ("v1.5"), the first 1x1 (the original) or by an ``average`` behind the 3x3
    (CLIP).
    """

    groups: int
    inner_widths: tuple[int, ...]
    stride: str

    kind: ClassVar[str] = "bottleneck"
    spiking: ClassVar[bool] = True
    expansion: ClassVar[int] = 4
    length: ClassVar[int] = 3

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        own = (traits["groups"], traits["inner_widths"], traits["bottleneck_stride"])
        return cls(traits["preactivation"], traits["final_norm"], traits["membranes"], *own)

    def traits(self) -> dict[str, Any]:
        own = {"groups": self.groups, "inner_widths": self.inner_widths, "bottleneck_stride": self.stride}
        return Block.traits(self) | own

    def inner(self, stage: int, widths: tuple[int, ...]) -> int:
        return self.inner_widths[stage] if self.inner_widths else widths[stage]

    def sizes(self, entry: int, inner: int, outer: int, stride: int) -> list[tuple[int, int, int, int, int]]:
        first, second = {"3x3": (1, stride), "1x1": (stride, 1), "average": (1, 1)}[self.stride]
        return [(entry, inner, 1, first, 1), (inner, inner, 3, second, self.groups), (inner, outer, 1, 1, 1)]

    def halves_inside(self, stride: int) -> bool:
        return self.stride == "average" and stride > 1

    def words(self) -> list[str]:
        words = [f"inner widths {'-'.join(map(str, self.inner_widths))}"] if self.inner_widths else []
        words += [f"{self.groups} groups"] if self.groups > 1 else []
        strides = {"1x1": ["strides in the first 1x1"], "average": ["strides by averages"]}
        return words + strides.get(self.stride, [])


BLOCKS: dict[str, type[Block]] = {each.kind: each for each in (BasicBlock, BottleneckBlock)}


# The way around a block


class Shortcut(Part):
    """Carries a block's input to the sum; an identity where neither width nor size changes."""

    title: ClassVar[str]

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls()

    def traits(self) -> dict[str, Any]:
        return {"shortcut": self.kind}

    @property
    def named(self) -> str:
        """The kind of the same weights among those of networks that are asked for by name."""
        return self.kind

    def projects(self, entry: int, outer: int, stride: int) -> bool:
        """Whether there are weights where a block of ``entry`` channels gives ``outer``."""
        return entry != outer or stride != 1

    def step(self, stride: int) -> int:
        """The stride of its convolution in a block that strides by so much."""
        return stride


@dataclass(frozen=True)
class Projection(Shortcut):
    """A 1x1 convolution and its BatchNorm (option B)."""

    kind: ClassVar[str] = "projection"
    spiking: ClassVar[bool] = True
    title: ClassVar[str] = "projection"


@dataclass(frozen=True)
class AveragedProjection(Shortcut):
    """The mean of 2x2 pixels, then the convolution, which does not stride (ResNet-D)."""

    kind: ClassVar[str] = "average"
    title: ClassVar[str] = "averaged projection"

    @property
    def named(self) -> str:
        return "projection"

    def step(self, stride: int) -> int:
        return 1


@dataclass(frozen=True)
class PaddedIdentity(Shortcut):
    """Every second pixel, and zeros for the channels that are new, half before and half behind (option A)."""

    kind: ClassVar[str] = "pad"
    spiking: ClassVar[bool] = True
    title: ClassVar[str] = "option-A"

    def projects(self, entry: int, outer: int, stride: int) -> bool:
        return False

    def before(self, extra: int) -> int:
        """How many of so many channels of zeros stand before the others."""
        return extra // 2


@dataclass(frozen=True)
class EndPaddedIdentity(PaddedIdentity):
    """Option A with all its zeros behind the channels that it carries."""

    kind: ClassVar[str] = "pad-end"
    title: ClassVar[str] = "option-A (zeros behind)"

    def before(self, extra: int) -> int:
        return 0


_SHORTCUTS = (Projection, PaddedIdentity, EndPaddedIdentity, AveragedProjection)
SHORTCUTS: dict[str, type[Shortcut]] = {each.kind: each for each in _SHORTCUTS}
