"""Where a ResNet's activations stand: what each reads, which share a range, and where a stream is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from idsnn_cli.architecture import QCFS, Convolution

# ``network`` is a ResNetArchitecture, which imports this.


def activations(network: Any) -> Iterator[tuple[str, str]]:
    """Of a network without pre-activation or deep stem. Identities and option-A shortcuts carry one activation's output
    into another's input, and both then share a range; itself where a projection, or nothing, stands before the sum, or
    where each activation learnt a range of its own. Where blocks add membranes, those share one that read one stream.
    """
    own = isinstance(network.activation, QCFS) and network.activation.limits != "shared"
    if network.membranes:
        yield from _reading_streams(network, own)
        return
    stream = "stem.act"
    yield stream, stream
    for stage, block in network.blocks():
        *inside, last = _names(network, stage, block)
        yield from ((name, name) for name in inside)
        stream = stream if network.passes_input(stage, block) else last
        yield last, last if own else stream


def _reading_streams(network: Any, own: bool) -> Iterator[tuple[str, str]]:
    stream = ""
    for stage, block in network.blocks():
        first, *inside = _names(network, stage, block)
        stream = first if own else stream or first
        yield first, stream
        yield from ((name, name) for name in inside)
        stream = stream if network.passes_input(stage, block) else ""
    yield "final_act", "final_act" if own else stream or "final_act"


def _names(network: Any, stage: int, block: int) -> list[str]:
    return [f"stages.{stage}.{block}.act{i}" for i in range(network.block_part.length)]


def membrane_layers(network: Any) -> dict[str, Convolution]:
    """Of blocks that add membranes: ``act{i}`` stands before ``conv{i}``, and reads what the convolution before that
    gave (alone, or added to the stream).
    """
    found, before = {}, network.stem_convolution()
    for stage, block in network.blocks():
        for name, conv in zip(_names(network, stage, block), network.block_convolutions(stage, block), strict=True):
            found[name], before = before, conv
    return {**found, "final_act": before}


def watched_places(network: Any) -> list[tuple[str, str, str | None]]:
    """A stream is seen behind every block of it, and behind the stem (before its pool) where that writes it. Before
    pre-activation blocks it is seen as what each block's first BatchNorm and activation make of it, and before MS
    blocks as what the activations that read it do.
    """
    spaces = network.streams()
    if network.membranes:
        return [(spaces.writes[conv.name], act, None) for act, conv in network.activation_layers().items()]
    found: list[tuple[str, str, str | None]] = []
    stem = network.stem_convolutions()
    for conv in stem:
        if conv.norm is None:
            continue  # before pre-activation blocks
        # One activation module serves all of a deep stem's convolutions.
        deep = len(stem) > 1
        where = conv.name.removesuffix(".conv") if deep else "stem.act"
        found.append((spaces.writes[conv.name], where, "stem.act" if deep else None))
    at = ""
    for stage, block in network.blocks():
        at, convolutions = f"stages.{stage}.{block}", network.block_convolutions(stage, block)
        if network.preactivation:
            found += [(spaces.reads[conv.name], f"{at}.act{i}", None) for i, conv in enumerate(convolutions)]
            continue
        found += [(spaces.writes[conv.name], f"{at}.act{i}", None) for i, conv in enumerate(convolutions[:-1])]
        found.append((spaces.writes[convolutions[-1].name], at, None))
    if network.preactivation:
        # Without a last norm the linear layer reads the sum as it is.
        found.append((spaces.features, "final_act" if network.final_norm else at, None))
    return found
