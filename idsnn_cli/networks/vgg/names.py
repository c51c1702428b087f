"""The VGGs that are asked for by name: a number of weighted layers, as their paper counts them."""

from __future__ import annotations

# Name's number -> convolutions of each stage, the first of which is the stem; a max-pool ends each stage.
STAGES: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
# Their widths over that of the first stage, which has 64 channels.
WIDENING = (1, 2, 4, 8, 8)
WIDTH = 64
# The linear layers that the paper's networks end in, and their number counts, however many there are.
COUNTED_LINEAR = 3

ANN_NAMES = tuple(f"vgg{depth}" for depth in STAGES)
SPIKING_NAMES = tuple(f"spiking-{name}" for name in ANN_NAMES)
