"""What a network costs to run: multiply-accumulates (MACs) of one image, found from its description alone."""

from __future__ import annotations

from idsnn_cli.architecture.description import Architecture
from idsnn_cli.architecture.parts import Convolution
from idsnn_cli.architecture.words import StemPool

# A backward pass takes the gradient of every layer's input and of its weights: twice the forward pass.
TRAINING_FACTOR = 3


def forward_macs(architecture: Architecture, height: int, width: int) -> int:
    """MACs of one image of ``height`` x ``width`` pixels going forward, all its time steps together.

    A convolution has k^2 * (C_in / groups) * C_out * H_out * W_out, a linear layer K * C. Of an ANN, and of one time
    step: M = stem + sum over blocks (main path, projection, attention) + linear layer. Of a spiking network of T
    steps T * M, but with direct coding stem + T * (M - stem), for the image repeats and the stem's convolution is
    computed once. Dense: that a spike may be 0 saves nothing on hardware that multiplies all the same. BatchNorm,
    neurons, additions, pooling and element-wise products (spikes times amplitudes, too) are not counted.
    """
    stem, size = _stem(architecture, (height, width))
    rest = architecture.num_classes * architecture.features
    for stage, block in architecture.blocks():
        macs, size = _block(architecture, stage, block, size)
        rest += macs
    if architecture.kind == "ann":
        return stem + rest
    return (stem if architecture.coding == "direct" else architecture.timesteps * stem) + architecture.timesteps * rest


def stage_sizes(architecture: Architecture, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of the maps behind each stage, for images of ``height`` x ``width`` pixels."""
    _, size = _stem(architecture, (height, width))
    sizes = {}
    for stage, block in architecture.blocks():
        _, size = _block(architecture, stage, block, size)
        sizes[stage] = size
    return tuple(sizes.values())


def training_macs(student: int, teacher: int = 0) -> int:
    """MACs of one image in training: 3 * ``student`` (forward, and twice that backward) + ``teacher``, which only goes
    forward. Both are :func:`forward_macs`.
    """
    return TRAINING_FACTOR * student + teacher


Size = tuple[int, int]


def _stem(architecture: Architecture, size: Size) -> tuple[int, Size]:
    total = 0
    for conv in architecture.stem_convolutions():
        macs, size = _convolution(conv, size)
        total += macs
    if architecture.stem == "3x3" or architecture.stem_pool == "convolution":
        return total, size
    return total, (_pooled(architecture.stem_pool, size[0]), _pooled(architecture.stem_pool, size[1]))


def _pooled(pool: StemPool, side: int) -> int:
    if pool == "average":
        return side // 2
    # Windows of 3 that step by 2; with "ceil" the last may hang over the edge, with "usual" both ends are padded by 1.
    return -(-(side - 3) // 2) + 1 if pool == "ceil" else (side - 1) // 2 + 1


def _block(architecture: Architecture, stage: int, block: int, size: Size) -> tuple[int, Size]:
    total = 0
    averages = architecture.bottleneck_stride == "average" and architecture.block_stride(stage, block) > 1
    for i, conv in enumerate(architecture.block_convolutions(stage, block)):
        macs, size = _convolution(conv, size)
        total += macs
        if i == 1 and averages:
            size = (size[0] // 2, size[1] // 2)
    projection = architecture.shortcut_convolution(stage, block)
    if projection is not None:
        # 1x1, and its maps are those of the main path, which they are added to.
        total += projection.in_channels * projection.out_channels * size[0] * size[1]
    channels = architecture.widths[stage] * architecture.expansion
    if architecture.attention == "se":
        total += 2 * channels * architecture.attention_sizes[stage]
    elif architecture.attention == "eca":
        total += channels * architecture.attention_sizes[stage]
    return total, size


def _convolution(conv: Convolution, size: Size) -> tuple[int, Size]:
    height, width = ((side + 2 * conv.padding - conv.kernel) // conv.stride + 1 for side in size)
    c_out, c_in, rows, columns = conv.shape
    return c_out * c_in * rows * columns * height * width, (height, width)
