"""What a network costs to run: multiply-accumulates (MACs) of one image, found from its description alone."""

from __future__ import annotations

from idsnn_cli.architecture.protocol import Architecture

# A backward pass takes the gradient of every layer's input and of its weights: twice the forward pass.
TRAINING_FACTOR = 3


def forward_macs(architecture: Architecture, height: int, width: int) -> int:
    """MACs of one image of ``height`` x ``width`` pixels going forward, all its time steps together.

    A convolution has k^2 * (C_in / groups) * C_out * H_out * W_out, a linear layer K * C. Of an ANN, and of one time
    step: M = stem + sum over blocks (main path, projection, attention) + linear layer. Of a spiking network of T
    steps T * M, but with direct coding stem + T * (M - stem), for the image repeats and the stem's convolution is
    computed once; of frames each is. Dense: that a spike may be 0 saves nothing on hardware that multiplies all the
    same. BatchNorm, neurons, additions, pooling and element-wise products (spikes times amplitudes, too) are not
    counted. Raises :class:`UsageError` for images too small for it.
    """
    architecture.require_size(height, width)
    stem, rest = 0, architecture.num_classes * architecture.features
    for macs, stage, _ in architecture.layer_macs(height, width):
        if stage is None:
            stem += macs
        else:
            rest += macs
    if architecture.kind == "ann":
        return stem + rest
    return (stem if architecture.coding == "direct" else architecture.timesteps * stem) + architecture.timesteps * rest


def stage_sizes(architecture: Architecture, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of the maps behind each stage, for images of ``height`` x ``width`` pixels.

    Raises :class:`UsageError` for images too small for it.
    """
    architecture.require_size(height, width)
    layers = architecture.layer_macs(height, width)
    sizes = {stage: size for _, stage, size in layers if stage is not None}
    return tuple(sizes.values())


def training_macs(student: int, teacher: int = 0) -> int:
    """MACs of one image in training: 3 * ``student`` (forward, and twice that backward) + ``teacher``, which only goes
    forward. Both are :func:`forward_macs`.
    """
    return TRAINING_FACTOR * student + teacher
