"""What networks of all families are made of, and the words for it that a recipe or ``--arch`` may give.

Neurons, activations, and convolutions with their place and BatchNorm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

Kind = Literal["ann", "spiking"]
Stem = Literal["3x3", "7x7"]
Shortcut = Literal["projection", "pad", "pad-end"]
BottleneckStride = Literal["3x3", "1x1", "average"]
SpikingBlock = Literal["spiking", "sew", "ms"]
Join = Literal["add", "and", "iand"]
Coding = Literal["direct", "poisson", "frames"]
Reset = Literal["hard", "soft"]
Start = Literal["zero", "half"]
ResetGradient = Literal["detached", "full"]
Activation = Literal["relu", "qcfs"]
Limits = Literal["shared", "each", "channel"]
# Learnt for each channel, or folded into the layers behind the spikes.
Amplitude = Literal["one", "channel", "folded", "folded-layer"]
# Whether each layer of neurons learns its decay (PLIF), or all have the one of the description.
LearnDecay = Literal["none", "layer"]
# Whether each channel of neurons learns what its membrane has more at the first step, or all have the neuron's start.
LearnStart = Literal["none", "channel"]
# That tensor (C,) of a layer of neurons, behind the layer's name.
START_SHIFT = "start_shift"
# What a learnt decay may start at: in float32 a sigmoid nearer to 0 or 1 has next to no slope, so it would stay there.
LEAST_LEARNT_DECAY = 1e-6
# The tensor () of a layer of neurons whose sigmoid is its learnt decay, behind the layer's name.
DECAY_LOGIT = "decay_logit"


def is_scale(name: str) -> bool:
    """Whether a tensor is by what a network multiplies spikes, or sums of membranes: an amplitude or a gain."""
    part = name.rpartition(".")[0].rpartition(".")[2]
    return part.startswith("amplitude") or part in ("gain", "final_gain")


@dataclass(frozen=True, slots=True)
class Neuron:
    """Constants of the leaky integrate-and-fire neuron (eq. 1-4).

    ``v_threshold`` is theta; ``decay`` is exp(-1/tau) per time step, 1 for integrate-and-fire; ``surrogate_scale`` is
    the surrogate's own parameter (lens, g, a or b). ``reset`` says what a spike does to the membrane and ``start``
    what it is before the first step, U(-1) = 0 or theta / 2, with F(-1) = 0. At every step t from 0, the first too:

        hard: U(t) = decay * U(t-1) * (1 - F(t-1)) + X(t)        soft: U(t) = decay * (U(t-1) - theta F(t-1)) + X(t)

    so a start leaks as any membrane does: U(0) = decay * U(-1) + X(0). ``reset_gradient`` says whether the gradient
    passes through what F takes from the membrane (full) or not (detached).
    """

    v_threshold: float = 0.5
    decay: float = 0.25
    surrogate: str = "rectangle"
    surrogate_scale: float = 0.5
    reset: Reset = "hard"
    start: Start = "zero"
    reset_gradient: ResetGradient = "detached"

    @property
    def first_potential(self) -> float:
        """What the membrane brings into the first step: decay * U(-1)."""
        return self.decay * self.v_threshold / 2 if self.start == "half" else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the usual reset, its gradient and start are left out."""
        plain = asdict(self)
        usual = {"reset": "hard", "start": "zero", "reset_gradient": "detached"}
        return {key: value for key, value in plain.items() if key not in usual or value != usual[key]}


_AMPLITUDES = {
    "channel": "learnt spike amplitudes",
    "folded": "folded amplitudes",
    "folded-layer": "folded amplitudes of layers",
}
_GAINS = {"folded": "thresholds by channel", "folded-layer": "thresholds by layer"}
# The traits of a description of which :class:`Spiking` is made, in the order of its fields.
SPIKING_TRAITS = ("timesteps", "neuron", "spiking_block", "join", "coding", "amplitude", "learn_decay", "learn_start")


@dataclass(frozen=True, slots=True)
class Spiking:
    """What makes a network spike. ``block`` is "spiking" (Figure 1b), SEW (Figure 1c), whose two ways meet by ``join``,
    or "ms" (membrane shortcut), whose sums are read as membranes by the neurons before the next convolutions.

    ``coding`` is what the first layer reads at each step: the image again (``direct``), spikes drawn by its pixels
    (``poisson``), or the next of T different ``frames``.
    ``amplitude`` is what a spike counts: one, a number that each ``channel`` learns (Real Spike), behind the neuron and
    of a 7x7 stem behind its pool, or one in a network into which such numbers were ``folded``: shortcuts without
    weights then have amplitudes of their own, one for each channel, or one in all (``folded-layer``); in MS blocks it
    is the neurons that read a sum who multiply it so, which gives them thresholds of their own.
    With ``learn_decay`` layer each layer of neurons has a decay of its own, sigmoid(w) of a tensor w () that is learnt
    (Fang et al., ICCV 2021), and the neuron's is what they started from. With ``learn_start`` channel the currents
    of the first step have a learnt tensor (C,) more in each layer of neurons: their membranes' own starts.
    """

    timesteps: int = 1
    neuron: Neuron = field(default_factory=Neuron)
    block: SpikingBlock = "spiking"
    join: Join = "add"
    coding: Coding = "direct"
    amplitude: Amplitude = "one"
    learn_decay: LearnDecay = "none"
    learn_start: LearnStart = "none"

    def words(self) -> list[str]:
        n = self.neuron
        blocks = {"spiking": "spiking blocks", "sew": f"SEW blocks ({self.join.upper()})", "ms": "MS blocks"}
        words = [
            blocks[self.block],
            f"T = {self.timesteps}",
            f"LIF threshold {n.v_threshold:g}, {self._leak()}, {n.surrogate} surrogate {n.surrogate_scale:g}",
            *(["soft reset"] if n.reset == "soft" else []),
            *(["starts at half its threshold"] if n.start == "half" else []),
            *([] if self.learn_start == "none" else ["starts learnt by channel from there"]),
            "a frame at each step" if self.coding == "frames" else f"{self.coding} coding",
        ]
        if self.amplitude != "one":
            words.append((_GAINS if self.block == "ms" else _AMPLITUDES)[self.amplitude])
        return words

    def _leak(self) -> str:
        return f"{'decay' if self.learn_decay == 'none' else 'decays learnt by layer from'} {self.neuron.decay:g}"

    def traits(self) -> dict[str, Any]:
        return {
            "timesteps": self.timesteps,
            "neuron": self.neuron.to_dict(),
            "spiking_block": self.block,
            "join": self.join,
            "coding": self.coding,
            "amplitude": self.amplitude,
            # Said where there is something to say: other families need not know it.
            **({} if self.learn_decay == "none" else {"learn_decay": self.learn_decay}),
            **({} if self.learn_start == "none" else {"learn_start": self.learn_start}),
        }


@dataclass(frozen=True, slots=True)
class ReLU:
    """The usual activation of an ANN."""

    kind: ClassVar[str] = "relu"
    levels: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class QCFS:
    """An activation whose values are ``levels`` equal parts of a learnt lambda, and 0.

    ``limits`` says who has a lambda of its own: each residual stream and each activation inside a block (``shared``),
    each activation (``each``), or each of its channels (``channel``).
    """

    levels: int
    limits: Limits = "shared"

    kind: ClassVar[str] = "qcfs"


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

    def macs(self, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """Its multiply-accumulates over maps of ``size``, k^2 * (C_in / groups) * C_out * H_out * W_out, and the size
        of what it gives.
        """
        height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in size)
        c_out, c_in, rows, columns = self.shape
        return c_out * c_in * rows * columns * height * width, (height, width)


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer with an activation behind it, before the last one. It reads ``side`` x ``side`` pixels of each of
    ``in_channels``, channel after channel, or vectors where ``side`` is 1.
    """

    name: str
    in_channels: int
    out_channels: int
    side: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's: (out, in)."""
        return (self.out_channels, self.in_channels * self.side**2)


def normed(conv: Convolution) -> dict[str, tuple[int, ...]]:
    """The tensors of a convolution and its BatchNorm, in the order in which they run."""
    norm = {} if conv.norm is None else norm_tensors(conv.norm, conv.norm_channels)
    weight: dict[str, tuple[int, ...]] = {f"{conv.name}.weight": conv.shape}
    return norm | weight if conv.norm_first else weight | norm


def norm_tensors(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in parts}, f"{name}.num_batches_tracked": ()}
