"""The stems of ResNets, and the pools behind them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from idsnn_cli.architecture.parts import Convolution
from idsnn_cli.networks.resnet.part import Part

# What stands behind the stem's last activation


class Pool(Part):
    """Shrinks the stem's maps."""

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls()

    def traits(self) -> dict[str, Any]:
        return {"stem_pool": self.kind}

    @abstractmethod
    def size(self, side: int) -> int:
        """The pixels of a side behind it."""


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest of 3x3 pixels in steps of 2, padded by 1; nothing behind a 3x3 stem, which does not shrink."""

    kind: ClassVar[str] = "usual"
    spiking: ClassVar[bool] = True

    def size(self, side: int) -> int:
        return (side - 1) // 2 + 1


@dataclass(frozen=True)
class CeilPool(Pool):
    """A max-pool that is not padded, whose last windows may hang over the edge (Cadene's SENets)."""

    kind: ClassVar[str] = "ceil"

    def size(self, side: int) -> int:
        return -(-(side - 3) // 2) + 1

    def words(self) -> list[str]:
        return ["the stem pools by an unpadded max-pool"]


@dataclass(frozen=True)
class AveragePool(Pool):
    """The mean of 2x2 pixels (CLIP)."""

    kind: ClassVar[str] = "average"

    def size(self, side: int) -> int:
        return side // 2

    def words(self) -> list[str]:
        return ["the stem pools by a mean"]


@dataclass(frozen=True)
class StridedConvolution(Pool):
    """No pool: the last convolution of a deep stem strides instead (ResNet-RS)."""

    kind: ClassVar[str] = "convolution"

    def size(self, side: int) -> int:
        return side

    def words(self) -> list[str]:
        return ["the stem pools by its last convolution"]


POOLS: dict[str, type[Pool]] = {each.kind: each for each in (MaxPool, AveragePool, CeilPool, StridedConvolution)}


# What reads the image


@dataclass(frozen=True, slots=True)
class Stem(Part):
    """The first convolutions. ``padding`` is each one's, ``widths`` their channels where they are not the usual."""

    padding: int
    widths: tuple[int, ...]
    pool: Pool

    @classmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        return cls(traits["stem_padding"], traits["stem_widths"], POOLS[traits["stem_pool"]]())

    def traits(self) -> dict[str, Any]:
        return {"stem": self.kind, "stem_padding": self.padding, "stem_widths": self.widths, **self.pool.traits()}

    @property
    def named(self) -> str:
        """The kind that comes nearest among those of networks that are asked for by name: it shrinks maps as much."""
        return self.kind

    @property
    def usual_padding(self) -> int:
        return 1

    def width(self, first: int) -> int:
        """The channels that it gives, ``first`` where nothing else is said."""
        return self.widths[-1] if self.widths else first

    @abstractmethod
    def convolutions(self, in_channels: int, first: int, *, normed: bool) -> tuple[Convolution, ...]:
        """In order; ``normed`` says whether a BatchNorm stands behind the last."""

    def shrunk(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size of maps behind the pool."""
        return self.pool.size(size[0]), self.pool.size(size[1])

    def words(self) -> list[str]:
        widths = [f"{'-'.join(map(str, self.widths))} channels in the stem"] if self.widths else []
        return [*self.pool.words(), *widths]


@dataclass(frozen=True, slots=True)
class SmallStem(Stem):
    """One 3x3 convolution that keeps the size of maps, as for images of 32 pixels."""

    kind: ClassVar[str] = "3x3"
    spiking: ClassVar[bool] = True
    kernel: ClassVar[int] = 3
    stride: ClassVar[int] = 1

    def convolutions(self, in_channels: int, first: int, *, normed: bool) -> tuple[Convolution, ...]:
        sizes = (in_channels, self.width(first), self.kernel, self.stride, self.padding)
        return (Convolution("stem.conv", "stem.norm" if normed else None, *sizes),)

    def shrunk(self, size: tuple[int, int]) -> tuple[int, int]:
        return size


@dataclass(frozen=True, slots=True)
class LargeStem(SmallStem):
    """One 7x7 convolution in steps of 2, and a pool."""

    kind: ClassVar[str] = "7x7"
    kernel: ClassVar[int] = 7
    stride: ClassVar[int] = 2

    @property
    def usual_padding(self) -> int:
        return 3

    def shrunk(self, size: tuple[int, int]) -> tuple[int, int]:
        return Stem.shrunk(self, size)


@dataclass(frozen=True, slots=True)
class DeepStem(Stem):
    """Several 3x3 convolutions, of which the first strides, and a pool (ResNet-C)."""

    kind: ClassVar[str] = "deep"

    @property
    def named(self) -> str:
        return "7x7"

    def convolutions(self, in_channels: int, first: int, *, normed: bool) -> tuple[Convolution, ...]:
        entries, last = (in_channels, *self.widths), len(self.widths) - 1
        strided = {0, last} if isinstance(self.pool, StridedConvolution) else {0}
        return tuple(
            Convolution(
                f"stem.{i}.conv",
                f"stem.{i}.norm" if normed or i < last else None,
                *(entries[i], width, 3, 2 if i in strided else 1, self.padding),
            )
            for i, width in enumerate(self.widths)
        )


STEMS: dict[str, type[Stem]] = {each.kind: each for each in (SmallStem, LargeStem, DeepStem)}
