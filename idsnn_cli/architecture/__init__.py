"""What a ResNet is, as data: its words, its description, what is valid, and its names. Nothing here imports torch."""

from idsnn_cli.architecture.cost import forward_macs, stage_sizes, training_macs
from idsnn_cli.architecture.description import Architecture
from idsnn_cli.architecture.naming import build_description
from idsnn_cli.architecture.parts import Convolution, Neuron
from idsnn_cli.architecture.stored import read_description
from idsnn_cli.architecture.validation import validate
from idsnn_cli.architecture.words import (
    ANN_NAMES,
    SPIKING_NAMES,
    Activation,
    Amplitude,
    Attention,
    Block,
    BottleneckStride,
    Coding,
    ForeignShortcut,
    ForeignStem,
    Join,
    Kind,
    Reset,
    Shortcut,
    SpikingBlock,
    Start,
    Stem,
    StemPool,
)

__all__ = [
    "ANN_NAMES",
    "SPIKING_NAMES",
    "Activation",
    "Amplitude",
    "Architecture",
    "Attention",
    "Block",
    "BottleneckStride",
    "Coding",
    "Convolution",
    "ForeignShortcut",
    "ForeignStem",
    "Join",
    "Kind",
    "Neuron",
    "Reset",
    "Shortcut",
    "SpikingBlock",
    "Start",
    "Stem",
    "StemPool",
    "build_description",
    "forward_macs",
    "read_description",
    "stage_sizes",
    "training_macs",
    "validate",
]
