"""ResNets: basic and bottleneck blocks, ANN and spiking."""

from __future__ import annotations

import re
from typing import Any

from idsnn_cli.architecture.naming import Family
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture, read
from idsnn_cli.networks.resnet.names import ANN_NAMES, FULL, SPIKING_NAMES


def describe(
    name: str,
    num_classes: int,
    *,
    width: int | None = None,
    stem: str = "3x3",
    stem_padding: int | None = None,
    shortcut: str | None = None,
    **traits: Any,
) -> ResNetArchitecture:
    """The ResNet of one of its names.

    ``width`` replaces the first stage's channels (64, or 16 for the thin ones); later stages double it.
    """
    depth = int(re.sub(r"\D", "", name))
    if depth in FULL:
        block, depths = FULL[depth]
        base, stages = 64, 4
    else:
        block, depths = "basic", ((depth - 2) // 6,) * 3
        base, stages = 16, 3
    base = base if width is None else width
    return ResNetArchitecture.of(
        kind="spiking" if name.startswith("spiking-") else "ann",
        block=block,
        depths=depths,
        widths=tuple(base * 2**s for s in range(stages)),
        num_classes=num_classes,
        stem=stem,
        stem_padding=(1 if stem == "3x3" else 3) if stem_padding is None else stem_padding,
        shortcut=shortcut or "projection",
        **traits,
    )


FAMILY = Family(ANN_NAMES, SPIKING_NAMES, describe, read)
