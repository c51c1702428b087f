"""The channel spaces of a network: which convolutions, norms and linear layers must agree about the same channels.

Names: ``input``, ``stem.{i}`` inside a deep stem, ``stem`` and ``stages.{s}`` for residual streams (a stem whose output
the first block adds to is of stream ``stages.0``), ``stages.{s}.{b}.inner{i}`` behind convolution i of a block, and
``stages.{s}.{b}.attention`` inside squeeze-and-excitation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from idsnn_cli.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Nested:
    """An option-A shortcut: the channels of stream ``inner`` stand in stream ``outer`` from ``offset`` on."""

    inner: str
    outer: str
    offset: int


@dataclass(frozen=True, slots=True)
class Spaces:
    """``sizes``: space -> channels; ``reads`` and ``writes``: convolution name -> space; ``norms``: norm name -> space.

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


def channel_spaces(architecture: Architecture) -> Spaces:
    """The spaces of a whole network."""
    sizes = {"input": architecture.in_channels}
    reads: dict[str, str] = {}
    writes: dict[str, str] = {}
    norms: dict[str, str] = {}
    nested: dict[str, Nested] = {}

    def place(name: str, norm: str | None, entry: str, out: str, channels: int, norm_first: bool) -> None:
        sizes.setdefault(out, channels)
        reads[name], writes[name] = entry, out
        if norm is not None:
            norms[norm] = entry if norm_first else out

    # An identity shortcut makes one stream of a block's input and output.
    joined = architecture.block_input(0, 0) == architecture.widths[0] * architecture.expansion
    stream = "stages.0" if joined and architecture.block_stride(0, 0) == 1 else "stem"
    stem, entry = architecture.stem_convolutions(), "input"
    for i, conv in enumerate(stem):
        out = stream if i == len(stem) - 1 else f"stem.{i}"
        place(conv.name, conv.norm, entry, out, conv.out_channels, conv.norm_first)
        entry = out
    for stage, block in architecture.blocks():
        at, outer = f"stages.{stage}.{block}", architecture.widths[stage] * architecture.expansion
        entry = stream
        width, stride = architecture.block_input(stage, block), architecture.block_stride(stage, block)
        if (width, stride) != (outer, 1):
            stream = f"stages.{stage}"
            sizes[stream] = outer
            if architecture.shortcut == "pad":
                nested[stream] = Nested(entry, stream, (outer - width) // 2)
        convolutions = architecture.block_convolutions(stage, block)
        inside = entry
        for i, conv in enumerate(convolutions):
            out = stream if i == len(convolutions) - 1 else f"{at}.inner{i}"
            place(conv.name, conv.norm, inside, out, conv.out_channels, conv.norm_first)
            inside = out
        projection = architecture.shortcut_convolution(stage, block)
        if projection is not None:
            place(projection.name, projection.norm, entry, stream, outer, projection.norm_first)
        if architecture.attention == "se":
            sizes[f"{at}.attention"] = architecture.attention_sizes[stage]
    if architecture.preactivation and architecture.final_norm:
        norms["final_norm"] = stream
    return Spaces(sizes, reads, writes, norms, nested, stream)


def activation_spaces(architecture: Architecture) -> dict[str, str]:
    """Activation module -> the channel space that it fires into, in network order.

    Of the networks that :meth:`Architecture.activations` knows: no pre-activation, no deep stem.
    """
    spaces = channel_spaces(architecture)
    return {name: spaces.writes[name.replace(".act", ".conv")] for name, _ in architecture.activations()}
