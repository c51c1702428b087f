"""What a ResNet is, as data: one description from which models, plans, counts and checkpoints are made.

Nothing here imports torch. Canonical tensor names (counted from 0): ``input.mean``, ``input.std``, ``stem.conv``,
``stem.norm`` (of a deep stem ``stem.{i}.conv`` and ``.norm``), ``stages.{s}.{b}.conv{i}``, ``stages.{s}.{b}.norm{i}``,
``stages.{s}.{b}.attention.reduce`` and ``.expand``, or ``.mix``, ``stages.{s}.{b}.shortcut.conv`` and
``.shortcut.norm``, ``final_norm``, ``head``; and with learnt amplitudes ``stem.amplitude`` and
``stages.{s}.{b}.amplitude{i}``, or once they are folded ``stages.{s}.{b}.shortcut.amplitude``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from idsnn_cli.architecture.parts import Convolution, Neuron, norm_tensors, normed
from idsnn_cli.architecture.words import (
    Amplitude,
    Attention,
    Block,
    BottleneckStride,
    Coding,
    ForeignShortcut,
    ForeignStem,
    Join,
    Kind,
    Shortcut,
    SpikingBlock,
    Stem,
    StemPool,
)

SPIKING_FIELDS = ("timesteps", "neuron", "spiking_block", "join", "coding", "amplitude")
# Traits that a spiking network cannot have, with their defaults.
ANN_TRAITS: dict[str, Any] = {
    "groups": 1,
    "inner_widths": (),
    "bottleneck_stride": "3x3",
    "stem_widths": (),
    "attention": "none",
    "attention_sizes": (),
    "preactivation": False,
    "stem_pool": "usual",
    "attention_bias": True,
    "attention_activated": False,
    "final_norm": True,
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A ResNet, ANN or spiking.

    ``depths`` counts the blocks of each stage, ``widths`` the channels of each stage (of a bottleneck a quarter of
    its output's, and its inner ones too unless ``inner_widths`` gives those). ``timesteps``, ``neuron``,
    ``spiking_block``, ``join``, ``coding`` and ``amplitude`` mean nothing in an ANN and hold their defaults there.
    ``amplitude`` is what a spike counts: one, a number that each ``channel`` learns (Real Spike), behind the neuron and
    of a 7x7 stem behind its pool, or one in a network into which such numbers were ``folded``: shortcuts without
    weights then have an amplitude of their own.

    Traits that only ANNs have, each absent by default: ``groups`` of a bottleneck's 3x3 convolution (ResNeXt),
    ``inner_widths`` by stage (ResNeXt, wide bottlenecks), ``bottleneck_stride``, the convolution in which a bottleneck
    strides (3x3 is "v1.5", 1x1 the original, ``average`` a 2x2 mean behind the 3x3, as in CLIP), the stem ``deep``,
    several 3x3 convolutions of which the first strides, the shortcut ``average``, a 2x2 mean before the projection
    where a block strides (ResNet-D), and ``stem_widths``, the channels of each convolution of a deep stem, or of a
    plain one's where they are not the first of ``widths``, ``attention`` behind every block's last BatchNorm,
    squeeze-and-excitation or ECA, with its ``attention_sizes`` by stage: the channels between the two convolutions of
    ``se``, the kernel of ``eca``, and ``preactivation`` (v2): BatchNorm and activation stand before each convolution of
    a block, the projection reads what the first of them gives and has no BatchNorm, nor has the stem's last
    convolution; ``final_norm`` stands before the pooling unless ``final_norm`` is False. ``stem_pool`` is a max-pool of
    3x3 pixels padded by 1, or none behind a 3x3 stem (``usual``), the mean of 2x2 pixels (``average``, CLIP), a
    max-pool that is not padded but counts the last pixels of odd maps (``ceil``, Cadene's SENets), or none, for the
    last convolution of a deep stem strides (``convolution``, ResNet-RS). ``attention_bias`` says whether the
    convolutions of ``se`` have biases, and ``attention_activated`` whether an activation stands before the attention.
    """

    kind: Kind
    block: Block
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    num_classes: int
    stem: Stem | ForeignStem = "3x3"
    stem_padding: int = 1
    shortcut: Shortcut | ForeignShortcut = "projection"
    in_channels: int = 3
    timesteps: int = 1
    neuron: Neuron = field(default_factory=Neuron)
    spiking_block: SpikingBlock = "spiking"
    join: Join = "add"
    coding: Coding = "direct"
    amplitude: Amplitude = "one"
    groups: int = 1
    inner_widths: tuple[int, ...] = ()
    bottleneck_stride: BottleneckStride = "3x3"
    stem_widths: tuple[int, ...] = ()
    attention: Attention = "none"
    attention_sizes: tuple[int, ...] = ()
    preactivation: bool = False
    stem_pool: StemPool = "usual"
    attention_bias: bool = True
    attention_activated: bool = False
    final_norm: bool = True

    @property
    def expansion(self) -> int:
        """Output channels of a block over its ``widths`` entry."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def features(self) -> int:
        """Channels that the linear layer reads."""
        return self.widths[-1] * self.expansion

    @property
    def stem_width(self) -> int:
        """Channels that the first block reads."""
        return self.stem_widths[-1] if self.stem_widths else self.widths[0]

    @property
    def depth(self) -> int:
        """The number in the network's name: weighted layers on the main path."""
        return sum(self.depths) * (3 if self.block == "bottleneck" else 2) + 2

    @property
    def name(self) -> str:
        """The name that ``--arch`` takes, without the options that may differ from its defaults."""
        return f"{'spiking-' if self.kind == 'spiking' else ''}resnet{self.depth}"

    @property
    def named_stem(self) -> Stem:
        """The stem that comes nearest among those of networks that are asked for by name: it shrinks maps as much."""
        return "7x7" if self.stem == "deep" else self.stem

    @property
    def named_shortcut(self) -> Shortcut:
        """The shortcut of the same weights among those of networks that are asked for by name."""
        return "projection" if self.shortcut == "average" else self.shortcut

    def stem_convolution(self) -> Convolution:
        """The convolution that reads the image."""
        return self.stem_convolutions()[0]

    def stem_convolutions(self) -> tuple[Convolution, ...]:
        """The stem's convolutions in order: one, ``stem.conv``, or those of a deep stem, ``stem.{i}.conv``."""
        if self.stem != "deep":
            kernel, stride = (3, 1) if self.stem == "3x3" else (7, 2)
            sizes = (self.in_channels, self.stem_width, kernel, stride, self.stem_padding)
            return (Convolution("stem.conv", None if self.preactivation else "stem.norm", *sizes),)
        entries, last = (self.in_channels, *self.stem_widths), len(self.stem_widths) - 1
        strided = {0, last} if self.stem_pool == "convolution" else {0}
        norms = [None if self.preactivation and i == last else f"stem.{i}.norm" for i in range(last + 1)]
        return tuple(
            Convolution(f"stem.{i}.conv", norms[i], entries[i], width, 3, 2 if i in strided else 1, self.stem_padding)
            for i, width in enumerate(self.stem_widths)
        )

    def block_convolutions(self, stage: int, block: int) -> tuple[Convolution, ...]:
        """The convolutions on the main path of a block, in order."""
        inner, outer = self.inner_width(stage), self.widths[stage] * self.expansion
        entry = self.block_input(stage, block)
        stride = self.block_stride(stage, block)
        if self.block == "basic":
            plan = [(entry, outer, 3, stride, 1), (outer, outer, 3, 1, 1)]
        else:
            first, second = {"3x3": (1, stride), "1x1": (stride, 1), "average": (1, 1)}[self.bottleneck_stride]
            plan = [(entry, inner, 1, first, 1), (inner, inner, 3, second, self.groups), (inner, outer, 1, 1, 1)]
        at = f"stages.{stage}.{block}"
        where, first = (stage, block), self.preactivation
        return tuple(
            Convolution(f"{at}.conv{i}", f"{at}.norm{i}", c_in, c_out, kernel, step, kernel // 2, *where, groups, first)
            for i, (c_in, c_out, kernel, step, groups) in enumerate(plan)
        )

    def inner_width(self, stage: int) -> int:
        """Channels between the convolutions of a block."""
        return self.inner_widths[stage] if self.inner_widths else self.widths[stage]

    def shortcut_convolution(self, stage: int, block: int) -> Convolution | None:
        """The 1x1 projection of a block, or None where the shortcut has no weights.

        One behind an average does not stride: the average does, by :meth:`block_stride`.
        """
        entry, outer = self.block_input(stage, block), self.widths[stage] * self.expansion
        stride = self.block_stride(stage, block)
        if self.shortcut == "pad" or (entry == outer and stride == 1):
            return None
        at = f"stages.{stage}.{block}.shortcut"
        step = 1 if self.shortcut == "average" else stride
        norm = None if self.preactivation else f"{at}.norm"
        return Convolution(f"{at}.conv", norm, entry, outer, 1, step, 0, stage, block)

    def attention_tensors(self, stage: int, block: int) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of a block's attention: ``reduce`` and ``expand``, or ``mix``."""
        if self.attention == "none":
            return {}
        at, channels = f"stages.{stage}.{block}.attention", self.widths[stage] * self.expansion
        size = self.attention_sizes[stage]
        if self.attention == "eca":
            return {f"{at}.mix.weight": (1, 1, size)}
        shapes: dict[str, tuple[int, ...]] = {}
        for part, c_out, c_in in (("reduce", size, channels), ("expand", channels, size)):
            shapes[f"{at}.{part}.weight"] = (c_out, c_in, 1, 1)
            if self.attention_bias:
                shapes[f"{at}.{part}.bias"] = (c_out,)
        return shapes

    def block_input(self, stage: int, block: int) -> int:
        if block > 0:
            return self.widths[stage] * self.expansion
        return self.widths[stage - 1] * self.expansion if stage > 0 else self.stem_width

    def block_stride(self, stage: int, block: int) -> int:
        return 2 if stage > 0 and block == 0 else 1

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

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every tensor of the state dict, in its order."""
        shapes: dict[str, tuple[int, ...]] = {
            "input.mean": (self.in_channels, 1, 1),
            "input.std": (self.in_channels, 1, 1),
        }
        for conv in self.stem_convolutions():
            shapes |= normed(conv)
        shapes |= self._amplitude("stem.amplitude", self.stem_width, "channel")
        for stage, block in self.blocks():
            at = f"stages.{stage}.{block}"
            for i, conv in enumerate(self.block_convolutions(stage, block)):
                shapes |= normed(conv) | self._amplitude(f"{at}.amplitude{i}", conv.out_channels, "channel")
            shapes |= self.attention_tensors(stage, block)
            projection = self.shortcut_convolution(stage, block)
            if projection is not None:
                shapes |= normed(projection)
            else:
                shapes |= self._amplitude(f"{at}.shortcut.amplitude", self.block_input(stage, block), "folded")
        if self.preactivation and self.final_norm:
            shapes |= norm_tensors("final_norm", self.features)
        shapes["head.weight"] = (self.num_classes, self.features)
        shapes["head.bias"] = (self.num_classes,)
        return shapes

    def _amplitude(self, name: str, channels: int, kind: Amplitude) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (channels,)} if self.amplitude == kind else {}

    def parameters(self) -> int:
        """Trainable parameters."""
        buffers = ("running_mean", "running_var", "num_batches_tracked", "input.mean", "input.std")
        return sum(math.prod(shape) for name, shape in self.tensors().items() if not name.endswith(buffers))

    def describe(self) -> str:
        """The network in one line of words."""
        stem = f"{self.stem} stem" + (f" padded by {self.stem_padding}" if self._odd_padding() else "")
        shortcut = {"projection": "projection", "pad": "option-A", "average": "averaged projection"}[self.shortcut]
        words = [
            f"{'Spiking ' if self.kind == 'spiking' else ''}ResNet-{self.depth}",
            f"{self.block} blocks {'-'.join(map(str, self.depths))}",
            f"widths {'-'.join(map(str, self.widths))}",
            stem,
            f"{shortcut} shortcuts",
            *self._ann_traits(),
            f"{self.num_classes} classes",
        ]
        if self.kind == "spiking":
            n = self.neuron
            block = "spiking blocks" if self.spiking_block == "spiking" else f"SEW blocks ({self.join.upper()})"
            words += [
                block,
                f"T = {self.timesteps}",
                f"LIF threshold {n.v_threshold:g}, decay {n.decay:g}, {n.surrogate} surrogate {n.surrogate_scale:g}",
                f"{self.coding} coding",
            ]
            if self.amplitude != "one":
                words.append({"channel": "learnt spike amplitudes", "folded": "folded amplitudes"}[self.amplitude])
        return ", ".join(words)

    def _ann_traits(self) -> list[str]:
        """In words, the traits that a plain ResNet does not have."""
        words = []
        if self.inner_widths:
            words.append(f"inner widths {'-'.join(map(str, self.inner_widths))}")
        if self.groups > 1:
            words.append(f"{self.groups} groups")
        if self.bottleneck_stride != "3x3":
            words.append({"1x1": "strides in the first 1x1", "average": "strides by averages"}[self.bottleneck_stride])
        if self.stem_pool != "usual":
            pools = {"average": "a mean", "ceil": "an unpadded max-pool", "convolution": "its last convolution"}
            words.append(f"the stem pools by {pools[self.stem_pool]}")
        if self.stem_widths:
            words.append(f"{'-'.join(map(str, self.stem_widths))} channels in the stem")
        if self.attention != "none":
            sizes = "-".join(map(str, self.attention_sizes))
            kind = {"se": f"squeeze-and-excitation {sizes}", "eca": f"ECA of kernels {sizes}"}[self.attention]
            words.append(kind + (" behind an activation" if self.attention_activated else ""))
        if self.preactivation:
            words.append("pre-activation" + ("" if self.final_norm else " without a last norm"))
        return words

    def _odd_padding(self) -> bool:
        return self.stem_padding != (3 if self.stem == "7x7" else 1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that :func:`read_description` turns back into an equal description."""
        plain = asdict(self)
        for key, default in {**ANN_TRAITS, "amplitude": "one"}.items():
            # A plain network's dictionary, and so its checkpoint's bytes, are those of versions without these traits.
            if plain[key] == default:
                del plain[key]
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
        if self.kind == "ann":
            for key in SPIKING_FIELDS:
                plain.pop(key, None)
        return plain
