"""VGGs with BatchNorm, ANN and spiking: 3x3 convolutions in five stages, a max-pool behind each."""

from __future__ import annotations

import re
from typing import Any

from idsnn_cli.architecture.naming import Family
from idsnn_cli.errors import UsageError
from idsnn_cli.networks.vgg.architecture import VGGArchitecture, read
from idsnn_cli.networks.vgg.names import ANN_NAMES, SPIKING_NAMES, STAGES, WIDENING, WIDTH


def describe(
    name: str,
    num_classes: int,
    *,
    width: int | None = None,
    stem: str = "3x3",
    stem_padding: int | None = None,
    shortcut: str | None = None,
    **traits: Any,
) -> VGGArchitecture:
    """The VGG of one of its names, with one linear layer behind the mean of the last maps.

    ``width`` replaces the first stage's 64 channels; later stages have 2, 4, 8 and 8 times as many. Raises
    :class:`UsageError` for what only a ResNet has.
    """
    for key, value, usual in (
        ("stem", stem, ("3x3",)),
        ("stem_padding", stem_padding, (None, 1)),
        ("shortcut", shortcut, (None, "projection")),
    ):
        if value not in usual:
            raise UsageError(f"{key} is {value}, which a VGG cannot have", f"Leave {key} out: {name} is plain.")
    stages = STAGES[int(re.sub(r"\D", "", name))]
    return VGGArchitecture.of(
        kind="spiking" if name.startswith("spiking-") else "ann",
        depths=(stages[0] - 1, *stages[1:]),
        widths=tuple((width or WIDTH) * factor for factor in WIDENING),
        num_classes=num_classes,
        **traits,
    )


FAMILY = Family(ANN_NAMES, SPIKING_NAMES, describe, read)
