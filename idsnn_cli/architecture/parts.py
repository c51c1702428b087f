"""What a network is made of: the neuron's constants, and a convolution with its place and its BatchNorm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from idsnn_cli.architecture.words import Reset, Start


@dataclass(frozen=True, slots=True)
class Neuron:
    """Constants of the leaky integrate-and-fire neuron (eq. 1-4).

    ``v_threshold`` is theta; ``decay`` is exp(-1/tau) per time step, 1 for integrate-and-fire; ``surrogate_scale`` is
    the surrogate's own parameter (lens, g, a or b). ``reset`` says what a spike does to the membrane and ``start``
    what it is before the first step, U(-1) = 0 or theta / 2, with F(-1) = 0. At every step t from 0, the first too:

        hard: U(t) = decay * U(t-1) * (1 - F(t-1)) + X(t)        soft: U(t) = decay * (U(t-1) - theta F(t-1)) + X(t)

    so a start leaks as any membrane does: U(0) = decay * U(-1) + X(0).
    """

    v_threshold: float = 0.5
    decay: float = 0.25
    surrogate: str = "rectangle"
    surrogate_scale: float = 0.5
    reset: Reset = "hard"
    start: Start = "zero"

    @property
    def first_potential(self) -> float:
        """What the membrane brings into the first step: decay * U(-1)."""
        return self.decay * self.v_threshold / 2 if self.start == "half" else 0.0

    @property
    def is_usual(self) -> bool:
        """Whether it is the paper's neuron, which all kernels know: hard reset, from zero."""
        return self.reset == "hard" and self.start == "zero"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what versions without these two do not know is left out at its default."""
        plain = asdict(self)
        usual = {"reset": "hard", "start": "zero"}
        return {key: value for key, value in plain.items() if key not in usual or value != usual[key]}


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
