"""The ResNets that are asked for by name: a number of weighted layers, and a few options."""

from __future__ import annotations

# Depth -> block and blocks a stage, of the four-stage networks; the thin ones have three equal stages of basic blocks.
FULL: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
THIN = (8, 14, 20, 32, 44, 56, 110)

ANN_NAMES = tuple(f"resnet{depth}" for depth in (*THIN, *FULL))
SPIKING_NAMES = tuple(f"spiking-{name}" for name in ANN_NAMES)
