"""A VGG as data. Its own canonical tensor names, beside those that all families share: ``hidden.{i}.linear``, of linear
layers before the last.

Stage s holds convolutions between two max-pools; the stem is the first stage's first, so that VGG-11's first stage has
no block of its own. Every convolution is a block of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from idsnn_cli.architecture.parts import QCFS, SPIKING_TRAITS, Convolution, Linear, Neuron, ReLU, Spiking, normed
from idsnn_cli.architecture.protocol import Architecture, Size, Spaces
from idsnn_cli.errors import UsageError
from idsnn_cli.networks.vgg.names import COUNTED_LINEAR
from idsnn_cli.networks.vgg.validation import TUPLES, check_traits

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class VGGArchitecture(Architecture):
    """A VGG with BatchNorm, ANN or spiking.

    ``depths`` counts the convolutions of each stage but for the stem, ``widths`` holds their channels. ``head_widths``
    are the linear layers before the last, each with an activation behind it; the first of them reads the maps brought
    to ``head_side`` x ``head_side`` pixels by means. :meth:`of` makes a description of plain data, and checks it.
    """

    family: ClassVar[str] = "vgg"

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    num_classes: int
    in_channels: int
    head_widths: tuple[int, ...]
    head_side: int
    activation: ReLU | QCFS
    spiking: Spiking | None

    @classmethod
    def of(cls, **traits: Any) -> Self:
        """The description with these traits, the others as usual. Raises :class:`UsageError` where they do not fit."""
        found = {**_USUAL, **traits}
        unknown = found.keys() - _USUAL.keys() - _NEEDED
        if unknown or not found.keys() >= _NEEDED:
            raise TypeError(f"a VGG has no {', '.join(sorted(unknown or _NEEDED - found.keys()))}")
        check_traits(found)
        spiking = Spiking(*(found[key] for key in SPIKING_TRAITS)) if found["kind"] == "spiking" else None
        return cls(
            depths=found["depths"],
            widths=found["widths"],
            num_classes=found["num_classes"],
            in_channels=found["in_channels"],
            head_widths=found["head_widths"],
            head_side=found["head_side"],
            activation=QCFS(found["levels"], found["limits"]) if found["activation"] == "qcfs" else ReLU(),
            spiking=spiking,
        )

    # Traits by their names

    def traits(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "depths": self.depths,
            "widths": self.widths,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
            **({} if self.spiking is None else self.spiking.traits()),
            "head_widths": self.head_widths,
            "head_side": self.head_side,
            "activation": self.activation.kind,
            "levels": self.levels,
            "limits": self.activation.limits if isinstance(self.activation, QCFS) else "shared",
        }

    def changed(self, **traits: Any) -> Self:
        if traits.pop("stem_padding", 1) != 1:
            raise UsageError("stem_padding is not 1, which a VGG cannot have", "Leave it out.")
        kept = {key: value for key, value in self.traits().items() if key not in traits}
        if "neuron" in kept:
            kept["neuron"] = self.neuron
        if traits.get("kind") == "ann":
            kept = {key: value for key, value in kept.items() if key not in SPIKING_TRAITS}
        return self.of(**kept, **traits)

    def usual_traits(self) -> dict[str, Any]:
        return {key: _USUAL[key] for key in _OPTIONAL}

    # Names and words

    @property
    def depth(self) -> int:
        """The number in the network's name."""
        return 1 + sum(self.depths) + COUNTED_LINEAR

    @property
    def name(self) -> str:
        return f"{'spiking-' if self.kind == 'spiking' else ''}vgg{self.depth}"

    @property
    def usual_student(self) -> str:
        return "spiking-vgg11"

    @property
    def builder(self) -> str:
        return "idsnn_cli.networks.vgg.network:make"

    def family_words(self) -> list[str]:
        stages = (1 + self.depths[0], *self.depths[1:])
        linear = (
            [f"linear layers of {'-'.join(map(str, self.head_widths))} before the last"] if self.head_widths else []
        )
        side = [f"which read {self.head_side}x{self.head_side} pixels"] if self.head_side > 1 else []
        quantised = []
        if isinstance(self.activation, QCFS):
            whose = ", each channel its own lambda" if self.activation.limits == "channel" else ""
            quantised.append(f"QCFS activations of {self.levels} levels{whose}")
        return [
            f"{'Spiking ' if self.kind == 'spiking' else ''}VGG-{self.depth}",
            f"convolutions {'-'.join(map(str, stages))}",
            f"widths {'-'.join(map(str, self.widths))}",
            *linear,
            *side,
            *quantised,
        ]

    # Layers

    @property
    def features(self) -> int:
        return self.head_widths[-1] if self.head_widths else self.widths[-1]

    def stem_convolutions(self) -> tuple[Convolution, ...]:
        return (Convolution("stem.conv", "stem.norm", self.in_channels, self.widths[0], 3, 1, 1),)

    def block_convolutions(self, stage: int, block: int) -> tuple[Convolution, ...]:
        at = f"stages.{stage}.{block}"
        sizes = (self.block_input(stage, block), self.widths[stage], 3, 1, 1)
        return (Convolution(f"{at}.conv0", f"{at}.norm0", *sizes, stage, block),)

    def block_input(self, stage: int, block: int) -> int:
        return self.widths[stage if block else max(stage - 1, 0)]

    def block_stride(self, stage: int, block: int) -> int:
        """The max-pool stands before a stage's first convolution, which does not stride itself."""
        return 2 if stage and not block else 1

    def stage_channels(self, stage: int) -> int:
        return self.widths[stage]

    def hidden_layers(self) -> tuple[Linear, ...]:
        entries = (self.widths[-1], *self.head_widths)
        return tuple(
            Linear(f"hidden.{i}.linear", entries[i], width, 1 if i else self.head_side)
            for i, width in enumerate(self.head_widths)
        )

    def tensors(self) -> Shapes:
        shapes: Shapes = {"input.mean": (self.in_channels, 1, 1), "input.std": (self.in_channels, 1, 1)}
        for conv, (act, _) in zip(self.convolutions(), self.activations(), strict=True):
            shapes |= normed(conv) | self.learnt_of_neurons(act, conv.out_channels)
            if isinstance(self.activation, QCFS):
                shapes[f"{act}.limit"] = (conv.out_channels,) if self.activation.limits == "channel" else ()
        for layer in self.hidden_layers():
            shapes |= {f"{layer.name}.weight": layer.shape, f"{layer.name}.bias": layer.shape[:1]}
            shapes |= self.learnt_of_neurons(f"{layer.name.rpartition('.')[0]}.act", layer.shape[0])
        return shapes | {"head.weight": (self.num_classes, self.features), "head.bias": (self.num_classes,)}

    def streams(self) -> Spaces:
        """Nothing is added to anything, so that every layer has its own channels."""
        spaces, before = Spaces({"input": self.in_channels}), "input"
        for conv in self.convolutions():
            here = conv.name.rpartition(".")[0]
            spaces.sizes[here] = conv.out_channels
            spaces.reads[conv.name], spaces.writes[conv.name], spaces.norms[str(conv.norm)] = before, here, here
            before = here
        for layer in self.hidden_layers():
            here = layer.name.rpartition(".")[0]
            spaces.sizes[here] = layer.out_channels
            spaces.reads[layer.name], spaces.writes[layer.name] = before, here
            before = here
        return replace(spaces, features=before)

    def layer_macs(self, height: int, width: int) -> Iterator[tuple[int, int | None, Size]]:
        size = (height, width)
        macs, size = self.stem_convolution().macs(size)
        yield macs, None, size
        for stage, depth in enumerate(self.depths):
            if stage:
                size = (size[0] // 2, size[1] // 2)
            if not depth:
                yield 0, stage, size
            for block in range(depth):
                macs, size = self.block_convolutions(stage, block)[0].macs(size)
                yield macs, stage, size
        for layer in self.hidden_layers():
            yield layer.shape[0] * layer.shape[1], len(self.depths) - 1, size

    def least_side(self) -> int:
        """The last max-pool stands behind the last convolution, among whose maps it is not."""
        return int(2 ** len(self.depths))

    def activations(self) -> Iterator[tuple[str, str]]:
        yield "stem.act", "stem.act"
        for stage, block in self.blocks():
            name = f"stages.{stage}.{block}.act"
            yield name, name

    def watched_places(self) -> list[tuple[str, str, str | None]]:
        places: list[tuple[str, str, str | None]] = [
            (name.removesuffix(".act"), name, None) for name, _ in self.activations()
        ]
        return places + [(f"hidden.{i}", f"hidden.{i}.act", None) for i in range(len(self.head_widths))]

    def reading_values(self) -> set[str] | None:
        """The first linear layer reads means over pixels, those behind it spikes."""
        if self.spiking is None:
            return None
        first = {"hidden.0.linear" if self.head_widths else "head"}
        return first if self.coding == "poisson" else {"stem.conv", *first}


_OPTIONAL = (
    "in_channels",
    "head_widths",
    "head_side",
    "activation",
    "levels",
    "limits",
    "spiking_block",
    "join",
    "amplitude",
    "learn_decay",
    "learn_start",
)
_USUAL: dict[str, Any] = {
    "in_channels": 3,
    "timesteps": 1,
    "neuron": Neuron(),
    "spiking_block": "spiking",
    "join": "add",
    "coding": "direct",
    "amplitude": "one",
    "learn_decay": "none",
    "learn_start": "none",
    "head_widths": (),
    "head_side": 1,
    "activation": "relu",
    "levels": 0,
    "limits": "shared",
}
_NEEDED = {"kind", "depths", "widths", "num_classes"}


def read(plain: Mapping[str, Any]) -> VGGArchitecture:
    """The description of plain data, such as JSON. Raises :class:`UsageError`, TypeError or ValueError for others."""
    values = dict(plain)
    for key in TUPLES:
        if key in values:
            values[key] = tuple(values[key])
    if "neuron" in values:
        values["neuron"] = Neuron(**values["neuron"])
    return VGGArchitecture.of(**values)
