"""A ResNet as data: one description from which modules, plans, counts and checkpoints are made.

Its own canonical tensor names, beside those that all families share: ``stages.{s}.{b}.shortcut.conv`` and
``.shortcut.norm``, ``stages.{s}.{b}.attention.reduce`` and ``.expand``, or ``.mix``, ``final_norm``; and with learnt
amplitudes ``stem.amplitude`` and ``stages.{s}.{b}.amplitude{i}``, or once they are folded
``stages.{s}.{b}.shortcut.amplitude``, in MS blocks ``stages.{s}.{b}.gain`` and ``final_gain``. Learnt decays are
``decay_logit`` of a layer of neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from idsnn_cli.architecture.parts import QCFS, SPIKING_TRAITS, Convolution, Neuron, ReLU, Spiking, norm_tensors, normed
from idsnn_cli.architecture.protocol import Architecture, Nested, Size, Spaces
from idsnn_cli.errors import UsageError
from idsnn_cli.networks.resnet.activations import activations, membrane_layers, watched_places
from idsnn_cli.networks.resnet.attention import ATTENTIONS, Attention
from idsnn_cli.networks.resnet.blocks import (
    BLOCKS,
    SHORTCUTS,
    AveragedProjection,
    Block,
    BottleneckBlock,
    PaddedIdentity,
    Shortcut,
)
from idsnn_cli.networks.resnet.stems import STEMS, Stem
from idsnn_cli.networks.resnet.validation import (
    ANN_TRAITS,
    NEEDED_TRAITS,
    OF_ATTENTION,
    TRAIT_ORDER,
    USUAL_TRAITS,
    check_traits,
)
from idsnn_cli.networks.resnet.words import words_of

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ResNetArchitecture(Architecture):
    """A ResNet, ANN or spiking.

    ``widths`` holds the channels of each stage, of a bottleneck a quarter of its output's. The parts say what they are
    themselves: ``stem_part``, ``block_part``, ``shortcut_part`` and ``attention_part``. :meth:`of` makes a description
    of plain data, and checks it.
    """

    family: ClassVar[str] = "resnet"

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    num_classes: int
    in_channels: int
    stem_part: Stem
    block_part: Block
    shortcut_part: Shortcut
    attention_part: Attention
    activation: ReLU | QCFS
    spiking: Spiking | None

    @classmethod
    def of(cls, **traits: Any) -> Self:
        """The description with these traits, the others as usual. Raises :class:`UsageError` where they do not fit."""
        found = {**ANN_TRAITS, **USUAL_TRAITS, **traits}
        unknown = found.keys() - ANN_TRAITS.keys() - USUAL_TRAITS.keys() - NEEDED_TRAITS
        if unknown or not found.keys() >= NEEDED_TRAITS:
            raise TypeError(f"a ResNet has no {', '.join(sorted(unknown or NEEDED_TRAITS - found.keys()))}")
        check_traits(found)
        spiking = None
        if found["kind"] == "spiking":
            spiking = Spiking(*(found[key] for key in SPIKING_TRAITS))
        return cls(
            depths=found["depths"],
            widths=found["widths"],
            num_classes=found["num_classes"],
            in_channels=found["in_channels"],
            stem_part=STEMS[found["stem"]].of(found),
            block_part=BLOCKS[found["block"]].of(found),
            shortcut_part=SHORTCUTS[found["shortcut"]].of(found),
            attention_part=ATTENTIONS[found["attention"]].of(found),
            activation=QCFS(found["levels"], found["limits"]) if found["activation"] == "qcfs" else ReLU(),
            spiking=spiking,
        )

    # Traits by their names

    def traits(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "kind": self.kind,
            "depths": self.depths,
            "widths": self.widths,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            "activation": self.activation.kind,
            "levels": self.levels,
            "limits": self.activation.limits if isinstance(self.activation, QCFS) else "shared",
        }
        for part in (self.stem_part, self.block_part, self.shortcut_part, self.attention_part):
            found |= part.traits()
        found |= {} if self.spiking is None else self.spiking.traits()
        return {key: found[key] for key in (*TRAIT_ORDER, *ANN_TRAITS) if key in found}

    def changed(self, **traits: Any) -> Self:
        kept = {key: value for key, value in self.traits().items() if key not in traits}
        if "neuron" in kept:
            kept["neuron"] = self.neuron
        # What only the other kind of block or attention has goes with it.
        for key, own in (("block", ("groups", "inner_widths", "bottleneck_stride")), ("attention", OF_ATTENTION)):
            if key in traits and traits[key] != getattr(self, key):
                kept = {name: value for name, value in kept.items() if name not in own}
        if traits.get("kind") == "ann":
            kept = {key: value for key, value in kept.items() if key not in SPIKING_TRAITS}
        return self.of(**kept, **traits)

    def usual_traits(self) -> dict[str, Any]:
        return {**ANN_TRAITS, "amplitude": "one", "learn_decay": "none", "learn_start": "none"}

    @property
    def block(self) -> str:
        return self.block_part.kind

    @property
    def stem(self) -> str:
        return self.stem_part.kind

    @property
    def stem_padding(self) -> int:
        return self.stem_part.padding

    @property
    def shortcut(self) -> str:
        return self.shortcut_part.kind

    @property
    def attention(self) -> str:
        return self.attention_part.kind

    @property
    def preactivation(self) -> bool:
        return self.block_part.preactivation

    @property
    def final_norm(self) -> bool:
        return self.block_part.final_norm

    @property
    def expansion(self) -> int:
        """Output channels of a block over its ``widths`` entry."""
        return self.block_part.expansion

    @property
    def features(self) -> int:
        return self.stage_channels(-1)

    @property
    def stem_width(self) -> int:
        """Channels that the first block reads."""
        return self.stem_part.width(self.widths[0])

    @property
    def depth(self) -> int:
        """The number in the network's name: weighted layers on the main path."""
        return sum(self.depths) * self.block_part.length + 2

    @property
    def name(self) -> str:
        return f"{'spiking-' if self.kind == 'spiking' else ''}resnet{self.depth}"

    @property
    def builder(self) -> str:
        return "idsnn_cli.networks.resnet.network:make"

    # Layers

    def stem_convolutions(self) -> tuple[Convolution, ...]:
        return self.stem_part.convolutions(self.in_channels, self.widths[0], normed=not self.preactivation)

    def block_convolutions(self, stage: int, block: int) -> tuple[Convolution, ...]:
        entry, stride = self.block_input(stage, block), self.block_stride(stage, block)
        return self.block_part.convolutions(stage, block, entry, self.widths, stride)

    def shortcut_convolution(self, stage: int, block: int) -> Convolution | None:
        """The 1x1 projection of a block. One behind an average does not stride: the average does."""
        entry, outer = self.block_input(stage, block), self.stage_channels(stage)
        stride = self.block_stride(stage, block)
        if not self.shortcut_part.projects(entry, outer, stride):
            return None
        at = f"stages.{stage}.{block}.shortcut"
        norm = None if self.preactivation else f"{at}.norm"
        return Convolution(f"{at}.conv", norm, entry, outer, 1, self.shortcut_part.step(stride), 0, stage, block)

    @property
    def usual_student(self) -> str:
        return "spiking-resnet18" if len(self.depths) == 4 else "spiking-resnet20"

    def passes_input(self, stage: int, block: int) -> bool:
        return self.shortcut_convolution(stage, block) is None

    def attention_tensors(self, stage: int, block: int) -> Shapes:
        return self.attention_part.tensors(stage, block, self.stage_channels(stage))

    def takes_attention(self, other: Architecture) -> bool:
        theirs = getattr(other, "attention_part", None)
        return isinstance(theirs, Attention) and self.attention_part.takes(theirs)

    def stage_channels(self, stage: int) -> int:
        return self.widths[stage] * self.expansion

    def block_input(self, stage: int, block: int) -> int:
        if block > 0:
            return self.stage_channels(stage)
        return self.stage_channels(stage - 1) if stage > 0 else self.stem_width

    def block_stride(self, stage: int, block: int) -> int:
        return 2 if stage > 0 and block == 0 else 1

    @property
    def membranes(self) -> bool:
        """Whether blocks add what no activation has seen, which those that read the sum do (MS blocks)."""
        return self.block_part.membranes or self.spiking_block == "ms"

    def activations(self) -> Iterator[tuple[str, str]]:
        return activations(self)

    def activation_layers(self) -> dict[str, Convolution]:
        return membrane_layers(self) if self.membranes else Architecture.activation_layers(self)

    def gain_of(self, act: str) -> str | None:
        place, _, last = act.rpartition(".")
        if not self.gains or (place and last != "act0"):
            return None
        return f"{place}.gain.weight" if place else "final_gain.weight"

    def reading_membranes(self) -> set[str]:
        if self.spiking_block != "ms":
            return set()
        projections = (self.shortcut_convolution(*at) for at in self.blocks())
        return {conv.name for conv in projections if conv is not None}

    def tensors(self) -> Shapes:
        shapes: Shapes = {"input.mean": (self.in_channels, 1, 1), "input.std": (self.in_channels, 1, 1)}
        learnt = {owner for _, owner in self.activations()} if isinstance(self.activation, QCFS) else set()
        for conv in self.stem_convolutions():
            shapes |= normed(conv)
        shapes |= {} if self.membranes else self.learnt_of_neurons("stem.act", self.stem_width)
        shapes |= self.spike_amplitude("stem.amplitude", self.stem_width, "channel")
        shapes |= self._limit("stem.act", self.stem_width) if "stem.act" in learnt else {}
        for stage, block in self.blocks():
            at = f"stages.{stage}.{block}"
            for i, conv in enumerate(self.block_convolutions(stage, block)):
                fired = conv.in_channels if self.membranes else conv.out_channels
                shapes |= normed(conv) | self.learnt_of_neurons(f"{at}.act{i}", fired)
                shapes |= self.spike_amplitude(f"{at}.amplitude{i}", conv.out_channels, "channel")
                shapes |= self._limit(f"{at}.act{i}", fired) if f"{at}.act{i}" in learnt else {}
            shapes |= self.attention_tensors(stage, block)
            projection = self.shortcut_convolution(stage, block)
            if projection is not None:
                shapes |= normed(projection)
                if self.spiking_block == "sew":
                    shapes |= self.learnt_of_neurons(f"{at}.shortcut_act", projection.out_channels)
            elif self.scaled_shortcuts:
                shapes |= self.spike_amplitude(f"{at}.shortcut.amplitude", self.block_input(stage, block), "folded")
            if self.gains:
                shapes |= self.spike_amplitude(f"{at}.gain", self.block_input(stage, block), "folded")
        if self.preactivation and self.final_norm:
            shapes |= norm_tensors("final_norm", self.features)
        shapes |= self.spike_amplitude("final_gain", self.features, "folded") if self.gains else {}
        shapes |= self.learnt_of_neurons("final_act", self.features) if self.membranes else {}
        shapes |= self._limit("final_act", self.features) if "final_act" in learnt else {}
        shapes["head.weight"] = (self.num_classes, self.features)
        shapes["head.bias"] = (self.num_classes,)
        return shapes

    def _limit(self, act: str, channels: int) -> Shapes:
        each = isinstance(self.activation, QCFS) and self.activation.limits == "channel"
        return {f"{act}.limit": (channels,) if each else ()}

    @property
    def rounds_down(self) -> bool:
        """Whether a mean of 2x2 pixels leaves out an odd map's last row and column: where both ways of a block take it
        (CLIP). Else it is of the pixels that there are, for a strided convolution keeps them."""
        return self.block_part.halves_inside(2) and isinstance(self.shortcut_part, AveragedProjection)

    def layer_macs(self, height: int, width: int) -> Iterator[tuple[int, int | None, Size]]:
        size = (height, width)
        for conv in self.stem_convolutions():
            macs, size = conv.macs(size)
            yield macs, None, size
        size = self.stem_part.shrunk(size)
        for stage, block in self.blocks():
            halves = self.block_part.halves_inside(self.block_stride(stage, block))
            lost = 0 if self.rounds_down else 1
            for i, conv in enumerate(self.block_convolutions(stage, block)):
                macs, size = conv.macs(size)
                size = ((size[0] + lost) // 2, (size[1] + lost) // 2) if i == 1 and halves else size
                yield macs, stage, size
            projection = self.shortcut_convolution(stage, block)
            if projection is not None:
                # 1x1, and its maps are those of the main path, which they are added to.
                yield projection.in_channels * projection.out_channels * size[0] * size[1], stage, size
            yield self.attention_part.macs(stage, self.stage_channels(stage)), stage, size

    # Streams of channels

    def streams(self) -> Spaces:
        spaces = Spaces({"input": self.in_channels})

        def place(conv: Convolution, entry: str, out: str) -> None:
            spaces.sizes.setdefault(out, conv.out_channels)
            spaces.reads[conv.name], spaces.writes[conv.name] = entry, out
            if conv.norm is not None:
                spaces.norms[conv.norm] = entry if conv.norm_first else out

        # An identity shortcut makes one stream of a block's input and output.
        joined = self.block_input(0, 0) == self.stage_channels(0)
        stream = "stages.0" if joined and self.block_stride(0, 0) == 1 else "stem"
        stem, entry = self.stem_convolutions(), "input"
        for i, conv in enumerate(stem):
            out = stream if i == len(stem) - 1 else f"stem.{i}"
            place(conv, entry, out)
            entry = out
        for stage, block in self.blocks():
            at, outer = f"stages.{stage}.{block}", self.stage_channels(stage)
            entry = stream
            width, stride = self.block_input(stage, block), self.block_stride(stage, block)
            if (width, stride) != (outer, 1):
                stream = f"stages.{stage}"
                spaces.sizes[stream] = outer
                if isinstance(self.shortcut_part, PaddedIdentity):
                    spaces.nested[stream] = Nested(entry, stream, self.shortcut_part.before(outer - width))
            convolutions = self.block_convolutions(stage, block)
            inside = entry
            for i, conv in enumerate(convolutions):
                out = stream if i == len(convolutions) - 1 else f"{at}.inner{i}"
                place(conv, inside, out)
                inside = out
            projection = self.shortcut_convolution(stage, block)
            if projection is not None:
                place(projection, entry, stream)
            hidden = self.attention_part.hidden(stage)
            if hidden is not None:
                spaces.sizes[f"{at}.attention"] = hidden
        if self.preactivation and self.final_norm:
            spaces.norms["final_norm"] = stream
        return replace(spaces, features=stream)

    def watched_places(self) -> list[tuple[str, str, str | None]]:
        return watched_places(self)

    def first_norm(self) -> tuple[str, bool]:
        conv = self.stem_convolution()
        return ("stages.0.0.norm0", self.stem == "7x7") if conv.norm is None else (conv.norm, False)

    def name_options(self) -> dict[str, str]:
        return {"stem": self.stem_part.named, "shortcut": self.shortcut_part.named}

    def striding(self, stride: str | None, where: object) -> Self:
        if stride is None:
            return self
        if not isinstance(self.block_part, BottleneckBlock):
            raise UsageError(f"{where} has no bottlenecks", "Leave the bottleneck's stride out.")
        return self.changed(bottleneck_stride=stride)

    def family_words(self) -> list[str]:
        return words_of(self)


def read(plain: Mapping[str, Any]) -> ResNetArchitecture:
    """The description of plain data, such as JSON. Raises :class:`UsageError`, TypeError or ValueError for others."""
    values = dict(plain)
    for key in ("depths", "widths", "inner_widths", "stem_widths", "attention_sizes"):
        if key in values:
            values[key] = tuple(values[key])
    if "neuron" in values:
        values["neuron"] = Neuron(**values["neuron"])
    return ResNetArchitecture.of(**values)
