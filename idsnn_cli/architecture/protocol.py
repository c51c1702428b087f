"""What the rest of the house asks of a network's description, whatever family it is of.

A family describes its networks by a subclass: what it must say is abstract here, and what follows from that is not.
Nothing here imports torch. Canonical tensor names (counted from 0) that all families share: ``input.mean``,
``input.std``, ``stem.conv``, ``stem.norm`` (of a stem of several convolutions ``stem.{i}.conv`` and ``.norm``),
``stages.{s}.{b}.conv{i}``, ``stages.{s}.{b}.norm{i}``, ``head``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from idsnn_cli.architecture.parts import (
    DECAY_LOGIT,
    QCFS,
    START_SHIFT,
    Amplitude,
    Coding,
    Convolution,
    Join,
    Kind,
    LearnDecay,
    LearnStart,
    Linear,
    Neuron,
    ReLU,
    Spiking,
    SpikingBlock,
)
from idsnn_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Nested:
    """An option-A shortcut: the channels of stream ``inner`` stand in stream ``outer`` from ``offset`` on."""

    inner: str
    outer: str
    offset: int


@dataclass(frozen=True, slots=True)
class Spaces:
    """Channel spaces: which convolutions, norms and linear layers must agree about the same channels.

    ``sizes``: space -> channels; ``reads`` and ``writes``: convolution name -> space; ``norms``: norm name -> space.
    Spaces are named ``input``, ``stem.{i}`` inside a deep stem, ``stem`` and ``stages.{s}`` for residual streams (a
    stem whose output the first block adds to is of stream ``stages.0``), ``stages.{s}.{b}.inner{i}`` behind convolution
    i of a block, and ``stages.{s}.{b}.attention`` inside squeeze-and-excitation. Where blocks add nothing there are no
    streams: what a block hands on is ``stages.{s}.{b}``, or as its last convolution's.
    ``nested`` holds the option-A shortcuts, by the outer stream; ``features`` is the space that the head reads.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    writes: dict[str, str] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)
    nested: dict[str, Nested] = field(default_factory=dict)
    features: str = ""

    def linked(self, space: str) -> str:
        """The first stream whose values option-A shortcuts carry unchanged into ``space``; itself without such."""
        while space in self.nested:
            space = self.nested[space].inner
        return space


Size = tuple[int, int]
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "input.mean", "input.std")


class Architecture(ABC):
    """A network, ANN or spiking, as data: immutable, hashable, equal where every trait is.

    ``depths`` counts the blocks of each stage; ``activation`` is what stands between layers of an ANN, and ``spiking``
    what makes a network spike (None in an ANN).
    """

    family: ClassVar[str]

    depths: tuple[int, ...]
    num_classes: int
    in_channels: int
    activation: ReLU | QCFS
    spiking: Spiking | None

    # What a family says

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that ``--arch`` takes, without the options that may differ from its defaults."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Channels that the linear layer reads."""

    @abstractmethod
    def stem_convolutions(self) -> tuple[Convolution, ...]:
        """The convolutions before the first block, in order; the first reads the image."""

    @abstractmethod
    def block_convolutions(self, stage: int, block: int) -> tuple[Convolution, ...]:
        """The convolutions on the main path of a block, in order."""

    @abstractmethod
    def stage_channels(self, stage: int) -> int:
        """Channels behind a stage."""

    @abstractmethod
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every tensor of the state dict, in its order."""

    @abstractmethod
    def streams(self) -> Spaces:
        """Which convolutions, norms and linear layers must agree about the same channels."""

    @abstractmethod
    def layer_macs(self, height: int, width: int) -> Iterator[tuple[int, int | None, Size]]:
        """(MACs of one image, stage or None for the stem's, size of the maps behind it) of each layer, in order; the
        linear layer is not among them.
        """

    @abstractmethod
    def activations(self) -> Iterator[tuple[str, str]]:
        """Every activation in network order, and the one that it has to share its range with, as names of modules."""

    @abstractmethod
    def watched_places(self) -> list[tuple[str, str, str | None]]:
        """(channel space, module, an activation still to come) of each place where what a space holds is seen."""

    @abstractmethod
    def traits(self) -> dict[str, Any]:
        """Every trait by its own name, in a fixed order: what :meth:`changed` takes and a checkpoint carries."""

    @abstractmethod
    def changed(self, **traits: Any) -> Self:
        """A copy with other traits. Raises :class:`UsageError` for what no network can be built from."""

    @abstractmethod
    def usual_traits(self) -> dict[str, Any]:
        """The traits that a checkpoint does not mention, with the values that they have then."""

    @property
    @abstractmethod
    def builder(self) -> str:
        """``module:function`` of what builds its module: it takes this description and is imported when called."""

    @abstractmethod
    def family_words(self) -> list[str]:
        """What it is, in words, but for its classes and what makes it spike."""

    # What a family may say

    def shortcut_convolution(self, stage: int, block: int) -> Convolution | None:
        """The projection around a block; None where its way has no weights, or there is none."""
        return None

    def hidden_layers(self) -> tuple[Linear, ...]:
        """The linear layers between the pooling and the last one, in order; each writes a space of its own."""
        return ()

    @property
    def usual_student(self) -> str:
        """The name of the spiking network that a message proposes for a student of this one."""
        return f"spiking-{self.name.removeprefix('spiking-')}"

    def passes_input(self, stage: int, block: int) -> bool:
        """Whether what a block reads is added to what it makes, unchanged but for zeros and strides (option A)."""
        return False

    def block_input(self, stage: int, block: int) -> int:
        """Channels that a block reads."""
        return self.block_convolutions(stage, block)[0].in_channels

    def block_stride(self, stage: int, block: int) -> int:
        """By how much a block thins its maps out."""
        return 1

    def attention_tensors(self, stage: int, block: int) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of what weighs a block's channels; empty without."""
        return {}

    def takes_attention(self, other: Architecture) -> bool:
        """Whether its attention can be made of that of ``other`` by choosing channels."""
        return False

    @property
    def preactivation(self) -> bool:
        """Whether BatchNorm and activation stand before the convolutions of a block."""
        return False

    @property
    def final_norm(self) -> bool:
        """Of a network with pre-activation, whether a norm stands before the pooling."""
        return True

    def first_norm(self) -> tuple[str, bool]:
        """The first BatchNorm that the image reaches, and whether a pool stands before it."""
        return str(self.stem_convolutions()[0].norm), False

    def name_options(self) -> dict[str, str]:
        """The options of a named network (``stem``, ``shortcut``) with which it is most like this one."""
        return {}

    def striding(self, stride: str | None, where: object) -> Self:
        """This network with bottlenecks that stride in the convolution of that kernel; itself for None.

        Raises :class:`UsageError`, naming ``where``, for one without bottlenecks.
        """
        if stride is None:
            return self
        raise UsageError(f"{where} has no bottlenecks", "Leave the bottleneck's stride out.")

    # What follows from these

    @property
    def kind(self) -> Kind:
        return "ann" if self.spiking is None else "spiking"

    @property
    def timesteps(self) -> int:
        """T; 1 of an ANN."""
        return 1 if self.spiking is None else self.spiking.timesteps

    @property
    def neuron(self) -> Neuron:
        return Neuron() if self.spiking is None else self.spiking.neuron

    @property
    def coding(self) -> Coding:
        return "direct" if self.spiking is None else self.spiking.coding

    @property
    def amplitude(self) -> Amplitude:
        return "one" if self.spiking is None else self.spiking.amplitude

    @property
    def scaled_shortcuts(self) -> bool:
        """Whether shortcuts without weights multiply the spikes that they pass on, since amplitudes are folded."""
        return self.amplitude in ("folded", "folded-layer") and not self.membranes

    @property
    def gains(self) -> bool:
        """Whether neurons that read a sum of membranes multiply it, each by its own number: thresholds of their own."""
        return self.amplitude in ("folded", "folded-layer") and self.membranes

    @property
    def membranes(self) -> bool:
        """Whether blocks add what no activation has seen, which those that read the sum do."""
        return False

    def gain_of(self, act: str) -> str | None:
        """The tensor by which the layer of neurons ``act`` multiplies the sum that it reads; None without one."""
        return None

    @property
    def learn_decay(self) -> LearnDecay:
        return "none" if self.spiking is None else self.spiking.learn_decay

    @property
    def learn_start(self) -> LearnStart:
        return "none" if self.spiking is None else self.spiking.learn_start

    @property
    def spiking_block(self) -> SpikingBlock:
        return "spiking" if self.spiking is None else self.spiking.block

    @property
    def join(self) -> Join:
        return "add" if self.spiking is None else self.spiking.join

    @property
    def levels(self) -> int:
        """Of QCFS activations; 0 without."""
        return self.activation.levels

    def least_side(self) -> int:
        """The fewest pixels of an image's side of which every layer leaves some."""
        side = 1
        while any(min(size) < 1 for _, _, size in self.layer_macs(side, side)):
            side += 1
        return side

    def require_size(self, height: int, width: int) -> None:
        """Raise :class:`UsageError` for images of ``height`` x ``width`` pixels of which some layer leaves none."""
        least = self.least_side()
        if min(height, width) < least:
            raise UsageError(
                f"images of {height}x{width} pixels are too small for a {self.name}, whose layers need sides of {least}"
                " or more",
                "Use larger images (data.image_size, where the data takes one), or another network.",
            )

    def stem_convolution(self) -> Convolution:
        """The convolution that reads the image."""
        return self.stem_convolutions()[0]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Every (stage, block), in order."""
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                yield stage, block

    def convolutions(self) -> Iterator[Convolution]:
        """Every convolution in the order of the canonical state dict."""
        yield from self.stem_convolutions()
        for stage, block in self.blocks():
            yield from self.block_convolutions(stage, block)
            projection = self.shortcut_convolution(stage, block)
            if projection is not None:
                yield projection

    def activation_layers(self) -> dict[str, Convolution]:
        """Each of :meth:`activations` and the convolution whose norm it reads: ``act{i}`` is behind ``conv{i}``, one
        that is only called ``act`` behind the last of its block or stem.
        """
        found = {}
        for name, _ in self.activations():
            place = name.rpartition(".")[0]
            inside = [conv for conv in self.convolutions() if conv.name.rpartition(".")[0] == place]
            named = [conv for conv in inside if conv.name == name.replace(".act", ".conv")]
            found[name] = (named or inside)[-1]
        return found

    def neuron_layers(self) -> dict[str, str]:
        """Each layer of neurons (of an ANN, of activations) by its module's name, and the convolution or linear layer
        whose output it reads.
        """
        found = {act: conv.name for act, conv in self.activation_layers().items()}
        projections = [self.shortcut_convolution(*at) for at in self.blocks()] if self.spiking_block == "sew" else []
        for conv in projections:
            if conv is not None:
                found[f"{conv.name.removesuffix('.shortcut.conv')}.shortcut_act"] = conv.name
        return found | {f"{layer.name.rpartition('.')[0]}.act": layer.name for layer in self.hidden_layers()}

    def spike_amplitude(self, name: str, channels: int, kind: Amplitude) -> dict[str, tuple[int, ...]]:
        """The tensor of amplitudes at ``name``, by name; empty where a network's are not of that ``kind``."""
        if kind == "folded" and self.amplitude == "folded-layer":
            return {f"{name}.weight": (1,)}
        return {f"{name}.weight": (channels,)} if self.amplitude == kind else {}

    def learnt_of_neurons(self, layer: str, channels: int) -> dict[str, tuple[int, ...]]:
        """The tensors that a layer of neurons over so many channels learns, by name: its decay and its starts."""
        decay: dict[str, tuple[int, ...]] = {f"{layer}.{DECAY_LOGIT}": ()} if self.learn_decay == "layer" else {}
        return decay | ({f"{layer}.{START_SHIFT}": (channels,)} if self.learn_start == "channel" else {})

    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(math.prod(shape) for name, shape in self.tensors().items() if not name.endswith(_BUFFERS))

    def reading_values(self) -> set[str] | None:
        """The layers whose input is values, not spikes: all of an ANN (None); of a spiking network the linear layer,
        the first one unless images come as spikes, and :meth:`reading_membranes`.
        """
        if self.spiking is None:
            return None
        first = set() if self.coding == "poisson" else {self.stem_convolution().name}
        return {"head", *first, *self.reading_membranes()}

    def running_each_step(self) -> set[str]:
        """Those of :meth:`reading_values` whose values are others at every time step, so that they run T times: the
        first one where it reads frames, and :meth:`reading_membranes`.
        """
        return self.reading_membranes() | ({self.stem_convolution().name} if self.coding == "frames" else set())

    def reading_membranes(self) -> set[str]:
        """Those of :meth:`reading_values` that read membranes, which are others at every time step."""
        return set()

    def describe(self) -> str:
        """The network in one line of words."""
        entry = [] if self.in_channels == 3 else [f"{self.in_channels}-channel images"]
        words = [*self.family_words(), *entry, f"{self.num_classes} classes"]
        return ", ".join([*words, *([] if self.spiking is None else self.spiking.words())])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that :func:`read_description` turns back into an equal description."""
        usual = self.usual_traits()
        plain = {key: value for key, value in self.traits().items() if key not in usual or value != usual[key]}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
        return {"family": self.family, **plain}
