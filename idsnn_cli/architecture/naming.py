"""From a network's name and a few options to its description."""

from __future__ import annotations

import re
from typing import Any

from idsnn_cli.architecture.description import Architecture
from idsnn_cli.architecture.validation import validate
from idsnn_cli.architecture.words import ANN_NAMES, FULL, SPIKING_NAMES, THIN, Shortcut, Stem
from idsnn_cli.errors import UsageError, did_you_mean


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
    ``spiking`` may hold ``timesteps``, ``neuron``, ``spiking_block``, ``join``, ``coding`` and ``amplitude``.
    Raises :class:`UsageError` for a name that is not known or options that do not fit it.
    """
    match = re.fullmatch(r"(spiking-)?resnet-?(\d+)", name.lower())
    names = (*ANN_NAMES, *SPIKING_NAMES)
    depth = int(match[2]) if match else 0
    if match is None or (depth not in FULL and depth not in THIN):
        raise UsageError(
            f"'{name}' is not a network that is known.{did_you_mean(name, names)}",
            f"Give one of {', '.join(names)}.",
        )
    if depth in FULL:
        block, depths = FULL[depth]
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
