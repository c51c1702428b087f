"""What a ResNet is, as data: one description from which models, plans, counts and checkpoints are made.

Nothing here imports torch. Canonical tensor names (counted from 0): ``input.mean``, ``input.std``, ``stem.conv``,
``stem.norm`` (of a deep stem ``stem.{i}.conv`` and ``.norm``), ``stages.{s}.{b}.conv{i}``, ``stages.{s}.{b}.norm{i}``,
``stages.{s}.{b}.attention.reduce`` and ``.expand``, or ``.mix``, ``stages.{s}.{b}.shortcut.conv`` and
``.shortcut.norm``, ``final_norm``, ``head``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from idsnn_cli.errors import CheckpointError, UsageError, did_you_mean

Kind = Literal["ann", "spiking"]
Block = Literal["basic", "bottleneck"]
Stem = Literal["3x3", "7x7"]
Shortcut = Literal["projection", "pad"]
# What a foreign ANN may have too, but no network that is asked for by name.
ForeignStem = Literal["deep"]
ForeignShortcut = Literal["average"]
Attention = Literal["none", "se", "eca"]
BottleneckStride = Literal["3x3", "1x1"]
SpikingBlock = Literal["spiking", "sew"]
Join = Literal["add", "and", "iand"]
Coding = Literal["direct", "poisson"]
Surrogate = Literal["rectangle", "triangle", "sigmoid", "arctan", "dspike"]

# The parameter each surrogate has when none is given: lens, g, a, a, b of the method's equations.
SURROGATE_SCALES: dict[str, float] = {
    "rectangle": 0.5,
    "triangle": 1.0,
    "sigmoid": 4.0,
    "arctan": 2.0,
    "dspike": 3.0,
}

_FULL: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_THIN = (8, 14, 20, 32, 44, 56, 110)

ANN_NAMES = tuple(f"resnet{depth}" for depth in (*_THIN, *_FULL))
SPIKING_NAMES = tuple(
    f"spiking-resnet{depth}" for depth in (*_THIN, *(d for d, (b, _) in _FULL.items() if b == "basic"))
)


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


@dataclass(frozen=True, slots=True)
class Architecture:
    """A ResNet, ANN or spiking.

    ``depths`` counts the blocks of each stage, ``widths`` the channels of each stage (of a bottleneck a quarter of
    its output's, and its inner ones too unless ``inner_widths`` gives those). ``timesteps``, ``neuron``,
    ``spiking_block``, ``join`` and ``coding`` mean nothing in an ANN and hold their defaults there.

    Traits that only ANNs have, each absent by default: ``groups`` of a bottleneck's 3x3 convolution (ResNeXt),
    ``inner_widths`` by stage (ResNeXt, wide bottlenecks), ``bottleneck_stride``, the convolution in which a
    bottleneck strides (3x3 is "v1.5", 1x1 the original), the stem ``deep``, several 3x3 convolutions of which the
    first strides, the shortcut ``average``, a 2x2 mean before the projection where a block strides (ResNet-D), and
    ``stem_widths``, the channels of each convolution of a deep stem, or of a plain one's where they are not the first
    of ``widths``, ``attention`` behind every block's last BatchNorm, squeeze-and-excitation or ECA, with its
    ``attention_sizes`` by stage: the channels between the two convolutions of ``se``, the kernel of ``eca``,
    and ``preactivation`` (v2): BatchNorm and activation stand before each convolution of a block, the projection reads
    what the first of them gives and has no BatchNorm, nor has the stem's last convolution; ``final_norm`` stands before
    the pooling.
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
    groups: int = 1
    inner_widths: tuple[int, ...] = ()
    bottleneck_stride: BottleneckStride = "3x3"
    stem_widths: tuple[int, ...] = ()
    attention: Attention = "none"
    attention_sizes: tuple[int, ...] = ()
    preactivation: bool = False

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
        norms = [None if self.preactivation and i == last else f"stem.{i}.norm" for i in range(last + 1)]
        return tuple(
            Convolution(f"stem.{i}.conv", norms[i], entries[i], width, 3, 2 if i == 0 else 1, self.stem_padding)
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
            first, second = (1, stride) if self.bottleneck_stride == "3x3" else (stride, 1)
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
        return {
            f"{at}.reduce.weight": (size, channels, 1, 1),
            f"{at}.reduce.bias": (size,),
            f"{at}.expand.weight": (channels, size, 1, 1),
            f"{at}.expand.bias": (channels,),
        }

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
            shapes |= _normed(conv)
        for stage, block in self.blocks():
            for conv in self.block_convolutions(stage, block):
                shapes |= _normed(conv)
            shapes |= self.attention_tensors(stage, block)
            projection = self.shortcut_convolution(stage, block)
            if projection is not None:
                shapes |= _normed(projection)
        if self.preactivation:
            shapes |= _norm("final_norm", self.features)
        shapes["head.weight"] = (self.num_classes, self.features)
        shapes["head.bias"] = (self.num_classes,)
        return shapes

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
        return ", ".join(words)

    def _ann_traits(self) -> list[str]:
        """In words, the traits that a plain ResNet does not have."""
        words = []
        if self.inner_widths:
            words.append(f"inner widths {'-'.join(map(str, self.inner_widths))}")
        if self.groups > 1:
            words.append(f"{self.groups} groups")
        if self.bottleneck_stride == "1x1":
            words.append("strides in the first 1x1")
        if self.stem_widths:
            words.append(f"{'-'.join(map(str, self.stem_widths))} channels in the stem")
        if self.attention != "none":
            sizes = "-".join(map(str, self.attention_sizes))
            kind = {"se": f"squeeze-and-excitation {sizes}", "eca": f"ECA of kernels {sizes}"}[self.attention]
            words.append(kind)
        if self.preactivation:
            words.append("pre-activation")
        return words

    def _odd_padding(self) -> bool:
        return self.stem_padding != (3 if self.stem == "7x7" else 1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that :meth:`from_dict` turns back into an equal description."""
        plain = asdict(self)
        for key, default in _ANN_TRAITS.items():
            # A plain network's dictionary, and so its checkpoint's bytes, are those of versions without these traits.
            if plain[key] == default:
                del plain[key]
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
        if self.kind == "ann":
            for key in _SPIKING_FIELDS:
                del plain[key]
        return plain

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Architecture:
        """Raises :class:`CheckpointError` where a key is missing, unknown or out of range."""
        try:
            values = dict(plain)
            for key in _TUPLES:
                if key in values or key not in _ANN_TRAITS:
                    values[key] = tuple(values[key])
            if "neuron" in values:
                values["neuron"] = Neuron(**values["neuron"])
            architecture = Architecture(**values)
            validate(architecture)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise CheckpointError(
                f"the architecture in the checkpoint's metadata is not one that this version knows: {error}",
                "Upgrade idsnn-cli, or make the checkpoint again with this version.",
            ) from None
        return architecture


_SPIKING_FIELDS = ("timesteps", "neuron", "spiking_block", "join", "coding")


def _normed(conv: Convolution) -> dict[str, tuple[int, ...]]:
    """The tensors of a convolution and its BatchNorm, in the order in which they run."""
    norm = {} if conv.norm is None else _norm(conv.norm, conv.norm_channels)
    weight: dict[str, tuple[int, ...]] = {f"{conv.name}.weight": conv.shape}
    return norm | weight if conv.norm_first else weight | norm


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in parts}, f"{name}.num_batches_tracked": ()}


# Traits that a spiking network cannot have, with their defaults.
_ANN_TRAITS: dict[str, Any] = {
    "groups": 1,
    "inner_widths": (),
    "bottleneck_stride": "3x3",
    "stem_widths": (),
    "attention": "none",
    "attention_sizes": (),
    "preactivation": False,
}
_TUPLES = ("depths", "widths", "inner_widths", "stem_widths", "attention_sizes")
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "block": get_args(Block),
    "stem": (*get_args(Stem), *get_args(ForeignStem)),
    "shortcut": (*get_args(Shortcut), *get_args(ForeignShortcut)),
    "bottleneck_stride": get_args(BottleneckStride),
    "attention": get_args(Attention),
    "spiking_block": get_args(SpikingBlock),
    "join": get_args(Join),
    "coding": get_args(Coding),
}


def validate(architecture: Architecture) -> None:
    """Raise :class:`UsageError` for a description that no network can be built from."""
    for key, allowed in _CHOICES.items():
        if getattr(architecture, key) not in allowed:
            raise UsageError(f"{key} is {getattr(architecture, key)!r}", f"Give one of {', '.join(allowed)}.")
    counts = {
        "num_classes": architecture.num_classes,
        "timesteps": architecture.timesteps,
        "in_channels": architecture.in_channels,
        "groups": architecture.groups,
        **{f"{key}[{i}]": n for key in _TUPLES for i, n in enumerate(getattr(architecture, key))},
    }
    for key, value in counts.items():
        if type(value) is not int or value < 1:
            raise UsageError(f"{key} is {value}", "Give an integer of 1 or more.")
    if type(architecture.stem_padding) is not int or architecture.stem_padding < 0:
        raise UsageError(f"stem_padding is {architecture.stem_padding}", "Give an integer of 0 or more.")
    _validate_neuron(architecture.neuron)
    if len(architecture.depths) != len(architecture.widths) or not architecture.depths:
        raise UsageError("depths and widths differ in length", "Give one of each for every stage.")
    if architecture.kind == "spiking" and architecture.block != "basic":
        raise UsageError(
            f"a Spiking ResNet-{architecture.depth} would need bottleneck blocks",
            f"Choose a basic-block depth: {', '.join(SPIKING_NAMES)}.",
        )
    _validate_ann_traits(architecture)
    _validate_attention(architecture)
    if type(architecture.preactivation) is not bool:
        raise UsageError(f"preactivation is {architecture.preactivation!r}", "Give true or false.")
    if architecture.shortcut == "pad":
        outer = [w * architecture.expansion for w in architecture.widths]
        steps = zip([architecture.stem_width, *outer[:-1]], outer, strict=True)
        if architecture.block != "basic" or any(b < a or (b - a) % 2 for a, b in steps):
            raise UsageError(
                "option-A shortcuts need basic blocks whose widths grow by an even number of channels",
                "Use shortcut: projection.",
            )


def _validate_ann_traits(architecture: Architecture) -> None:
    if architecture.kind == "spiking":
        usual = {**_ANN_TRAITS, "stem": architecture.named_stem, "shortcut": architecture.named_shortcut}
        for key, value in usual.items():
            if getattr(architecture, key) != value:
                raise UsageError(
                    f"{key} is {getattr(architecture, key)}, which a Spiking ResNet cannot have", f"Use {key}: {value}."
                )
    inner = architecture.inner_widths
    if len(inner) not in (0, len(architecture.depths)):
        raise UsageError("depths and inner_widths differ in length", "Give one of each for every stage.")
    if architecture.block == "basic" and (architecture.groups, inner, architecture.bottleneck_stride) != (1, (), "3x3"):
        raise UsageError(
            "groups, inner_widths and bottleneck_stride are traits of bottlenecks", "Leave them out of basic blocks."
        )
    if any(width % architecture.groups for width in inner or architecture.widths):
        raise UsageError(
            f"{architecture.groups} groups do not divide the inner widths", "Give widths that the groups divide."
        )
    if (len(architecture.stem_widths) > 1) is not (architecture.stem == "deep"):
        raise UsageError(
            f"a {architecture.stem} stem does not have {len(architecture.stem_widths)} stem_widths",
            "Give one for each convolution: two or more for a deep stem, one or none for a plain one.",
        )


def _validate_attention(architecture: Architecture) -> None:
    sizes = architecture.attention_sizes
    if len(sizes) != (0 if architecture.attention == "none" else len(architecture.depths)):
        raise UsageError(
            f"attention is {architecture.attention!r} with {len(sizes)} attention_sizes",
            "Give one size for every stage, and none without attention.",
        )
    if architecture.preactivation and (architecture.attention != "none" or architecture.shortcut == "pad"):
        raise UsageError(
            "pre-activation blocks with attention or option-A shortcuts", "Use projections, and no attention."
        )
    if architecture.attention == "eca" and any(size % 2 == 0 for size in sizes):
        raise UsageError(f"attention_sizes are {sizes}", "Give odd kernels.")


def _validate_neuron(neuron: Neuron) -> None:
    if neuron.surrogate not in SURROGATE_SCALES:
        raise UsageError(f"surrogate is {neuron.surrogate!r}", f"Give one of {', '.join(SURROGATE_SCALES)}.")
    for key in ("v_threshold", "surrogate_scale"):
        value = getattr(neuron, key)
        if not 0 < value < math.inf:
            raise UsageError(f"{key} is {value}", "Give a finite number above 0.")
    if not 0 <= neuron.decay <= 1:
        raise UsageError(f"decay is {neuron.decay}", "Give a number from 0 to 1.")


def build_description(
    name: str,
    num_classes: int,
    *,
    width: int | None = None,
    stem: Stem = "3x3",
    stem_padding: int | None = None,
    shortcut: Shortcut | None = None,
    **spiking: Any,
) -> Architecture:
    """The description of a named network.

    ``width`` replaces the first stage's channels (64, or 16 for the thin ones); later stages double it.
    ``spiking`` may hold ``timesteps``, ``neuron``, ``spiking_block``, ``join`` and ``coding``. Raises
    :class:`UsageError` for a name that is not known or options that do not fit it.
    """
    match = re.fullmatch(r"(spiking-)?resnet-?(\d+)", name.lower())
    names = (*ANN_NAMES, *SPIKING_NAMES)
    depth = int(match[2]) if match else 0
    if match is None or (depth not in _FULL and depth not in _THIN):
        raise UsageError(
            f"'{name}' is not a network that is known.{did_you_mean(name, names)}",
            f"Give one of {', '.join(names)}.",
        )
    if depth in _FULL:
        block, depths = _FULL[depth]
        base, stages = 64, 4
    else:
        block, depths = "basic", ((depth - 2) // 6,) * 3
        base, stages = 16, 3
    base = base if width is None else width
    architecture = Architecture(
        kind="spiking" if match[1] else "ann",
        block=block,
        depths=depths,
        widths=tuple(base * 2**s for s in range(stages)),
        num_classes=num_classes,
        stem=stem,
        stem_padding=(1 if stem == "3x3" else 3) if stem_padding is None else stem_padding,
        shortcut=shortcut or "projection",
        **spiking,
    )
    validate(architecture)
    return architecture
