"""A ResNet in words."""

from __future__ import annotations

from typing import Any

from idsnn_cli.architecture import QCFS


def words_of(network: Any) -> list[str]:
    """What a ResNetArchitecture, which imports this, is, but for its classes and what makes it spike."""
    odd = network.stem_part.padding != network.stem_part.usual_padding
    quantised = []
    if isinstance(network.activation, QCFS):
        whose = {"shared": "", "each": ", each its own lambda", "channel": ", each channel its own lambda"}
        quantised.append(f"QCFS activations of {network.levels} levels{whose[network.activation.limits]}")
    return [
        f"{'Spiking ' if network.kind == 'spiking' else ''}ResNet-{network.depth}",
        f"{network.block} blocks {'-'.join(map(str, network.depths))}",
        f"widths {'-'.join(map(str, network.widths))}",
        f"{network.stem} stem" + (f" padded by {network.stem_padding}" if odd else ""),
        f"{network.shortcut_part.title} shortcuts",
        *network.block_part.words(),
        *network.stem_part.words(),
        *network.attention_part.words(),
        *network.block_part.order_words(),
        *quantised,
    ]
