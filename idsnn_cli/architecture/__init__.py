"""What a network is, as data: parts, the protocol of descriptions, names and costs. Nothing here imports torch."""

from idsnn_cli.architecture.costs import forward_macs, stage_sizes, training_macs
from idsnn_cli.architecture.naming import ann_names, build_description, read_description, spiking_names, validate
from idsnn_cli.architecture.parts import (
    QCFS,
    Activation,
    Amplitude,
    BottleneckStride,
    Coding,
    Convolution,
    Join,
    Kind,
    Neuron,
    ReLU,
    Reset,
    Shortcut,
    Spiking,
    SpikingBlock,
    Start,
    Stem,
)
from idsnn_cli.architecture.protocol import Architecture, Nested, Spaces

__all__ = [
    "QCFS",
    "Activation",
    "Amplitude",
    "Architecture",
    "BottleneckStride",
    "Coding",
    "Convolution",
    "Join",
    "Kind",
    "Nested",
    "Neuron",
    "ReLU",
    "Reset",
    "Shortcut",
    "Spaces",
    "Spiking",
    "SpikingBlock",
    "Start",
    "Stem",
    "ann_names",
    "build_description",
    "forward_macs",
    "read_description",
    "spiking_names",
    "stage_sizes",
    "training_macs",
    "validate",
]
