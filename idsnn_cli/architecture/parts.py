"""What a network is made of: the neuron's constants, and a convolution with its place and its BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass

from idsnn_cli.architecture.words import Surrogate


@dataclass(frozen=True, slots=True)
class Neuron:
    """Constants of the leaky integrate-and-fire neuron (eq. 1-4).

    ``v_threshold`` is theta; ``decay`` is exp(-1/tau) per time step; ``surrogate_scale`` is the surrogate's own
    parameter (lens, g, a or b).
    """

    v_threshold: float = 0.5
    decay: float = 0.25
    surrogate: Surrogate = "rectangle"
    surrogate_scale: float = 0.5


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution of a network and where it stands. ``kernel``, ``stride`` and ``padding`` are square.

    With ``groups`` above 1 each output channel reads ``in_channels / groups`` of the input's. ``norm`` is the BatchNorm
    behind it, or before it where ``norm_first`` says so; None where there is none.
    """

    name: str
    norm: str | None
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    stage: int | None = None
    block: int | None = None
    groups: int = 1
    norm_first: bool = False

    @property
    def norm_channels(self) -> int:
        return self.in_channels if self.norm_first else self.out_channels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The kernel's: (out, in / groups, height, width)."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)


def normed(conv: Convolution) -> dict[str, tuple[int, ...]]:
    """The tensors of a convolution and its BatchNorm, in the order in which they run."""
    norm = {} if conv.norm is None else norm_tensors(conv.norm, conv.norm_channels)
    weight: dict[str, tuple[int, ...]] = {f"{conv.name}.weight": conv.shape}
    return norm | weight if conv.norm_first else weight | norm


def norm_tensors(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in parts}, f"{name}.num_batches_tracked": ()}
