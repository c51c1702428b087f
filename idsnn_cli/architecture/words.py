"""The words that a description is made of: every choice and every name that a recipe or ``--arch`` may give."""

from __future__ import annotations

from typing import Literal

Kind = Literal["ann", "spiking"]
Block = Literal["basic", "bottleneck"]
Stem = Literal["3x3", "7x7"]
Shortcut = Literal["projection", "pad"]
# What a foreign ANN may have too, but no network that is asked for by name.
ForeignStem = Literal["deep"]
ForeignShortcut = Literal["average"]
Attention = Literal["none", "se", "eca"]
BottleneckStride = Literal["3x3", "1x1", "average"]
StemPool = Literal["usual", "average", "ceil", "convolution"]
SpikingBlock = Literal["spiking", "sew"]
Join = Literal["add", "and", "iand"]
Coding = Literal["direct", "poisson"]
Reset = Literal["hard", "soft"]
Start = Literal["zero", "half"]
Activation = Literal["relu", "qcfs"]
# Learnt for each channel, or folded into the layers behind the spikes.
Amplitude = Literal["one", "channel", "folded"]

# Depth -> block and blocks a stage, of the four-stage networks; the thin ones have three equal stages of basic blocks.
FULL: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
THIN = (8, 14, 20, 32, 44, 56, 110)

ANN_NAMES = tuple(f"resnet{depth}" for depth in (*THIN, *FULL))
SPIKING_NAMES = tuple(f"spiking-resnet{depth}" for depth in (*THIN, *(d for d, (b, _) in FULL.items() if b == "basic")))
