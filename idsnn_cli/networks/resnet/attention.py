"""Attention behind a block's last BatchNorm: a gate for each channel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from idsnn_cli.networks.resnet.part import Part, Shapes

# What weighs the channels behind a block's last BatchNorm


class Attention(Part):
    """A gate for each channel, made of the channels' means; ``sizes`` by stage."""

    @property
    def of_stages(self) -> tuple[int, ...]:
        """One size for each stage."""
        return ()

    def traits(self) -> dict[str, Any]:
        return {"attention": self.kind, "attention_sizes": self.of_stages}

    @abstractmethod
    def tensors(self, stage: int, block: int, channels: int) -> Shapes:
        """Canonical name -> shape of one block's."""

    @abstractmethod
    def macs(self, stage: int, channels: int) -> int:
        """Multiply-accumulates of one image in one block."""

    def hidden(self, stage: int) -> int | None:
        """Channels of a space of its own between two layers; None where there is none."""
        return None

    def takes(self, other: Attention) -> bool:
        """Whether its tensors can be made of those of ``other`` by choosing channels."""
        return False


@dataclass(frozen=True)
class NoAttention(Attention):
    """None."""

    kind: ClassVar[str] = "none"
    spiking: ClassVar[bool] = True

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls()

    def tensors(self, stage: int, block: int, channels: int) -> Shapes:
        return {}

    def macs(self, stage: int, channels: int) -> int:
        return 0


@dataclass(frozen=True)
class SqueezeExcitation(Attention):
    """Two 1x1 convolutions, ``sizes`` the channels between them, with biases unless ``bias`` is False; ``activated``
    says that an activation stands before it.
    """

    sizes: tuple[int, ...]
    bias: bool
    activated: bool

    kind: ClassVar[str] = "se"

    @property
    def of_stages(self) -> tuple[int, ...]:
        return self.sizes

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls(traits["attention_sizes"], traits["attention_bias"], traits["attention_activated"])

    def traits(self) -> dict[str, Any]:
        return super().traits() | {"attention_bias": self.bias, "attention_activated": self.activated}

    def tensors(self, stage: int, block: int, channels: int) -> Shapes:
        at, size = f"stages.{stage}.{block}.attention", self.sizes[stage]
        shapes: Shapes = {}
        for part, c_out, c_in in (("reduce", size, channels), ("expand", channels, size)):
            shapes[f"{at}.{part}.weight"] = (c_out, c_in, 1, 1)
            if self.bias:
                shapes[f"{at}.{part}.bias"] = (c_out,)
        return shapes

    def macs(self, stage: int, channels: int) -> int:
        return 2 * channels * self.sizes[stage]

    def hidden(self, stage: int) -> int | None:
        return self.sizes[stage]

    def takes(self, other: Attention) -> bool:
        return isinstance(other, SqueezeExcitation) and other.bias == self.bias

    def words(self) -> list[str]:
        sizes = "-".join(map(str, self.sizes))
        return [f"squeeze-and-excitation {sizes}" + (" behind an activation" if self.activated else "")]


@dataclass(frozen=True)
class ChannelConvolution(Attention):
    """Efficient channel attention (ECA): a convolution over neighbouring channels, ``sizes`` its kernels."""

    sizes: tuple[int, ...]

    kind: ClassVar[str] = "eca"

    @property
    def of_stages(self) -> tuple[int, ...]:
        return self.sizes

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls(traits["attention_sizes"])

    def tensors(self, stage: int, block: int, channels: int) -> Shapes:
        return {f"stages.{stage}.{block}.attention.mix.weight": (1, 1, self.sizes[stage])}

    def macs(self, stage: int, channels: int) -> int:
        return channels * self.sizes[stage]

    def takes(self, other: Attention) -> bool:
        # A kernel over neighbouring channels cannot be looped over, as weights of channels can.
        return isinstance(other, ChannelConvolution)

    def words(self) -> list[str]:
        return [f"ECA of kernels {'-'.join(map(str, self.sizes))}"]


ATTENTIONS: dict[str, type[Attention]] = {
    each.kind: each for each in (NoAttention, SqueezeExcitation, ChannelConvolution)
}
