"""What a caller may choose where a file leaves a choice, and what the recogniser found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from idsnn_cli.architecture import Architecture, Coding, Join, Neuron, SpikingBlock
from idsnn_cli.families.scheme import Neurons, Scheme
from idsnn_cli.families.structure import Certainty

# What names and shapes cannot tell.
STEM_STRIDE = "the stem's stride, padding and pooling"
BOTTLENECK_STRIDE = "which convolution of a bottleneck strides"
AVERAGED_SHORTCUTS = "whether a projection reads the mean of 2x2 pixels"
OPTION_A_CHANNELS = "where option-A shortcuts put their zeros (half before, half behind is assumed; --option-a)"
MEMBRANES = "whether blocks add what no activation has seen (MS blocks; what a ReLU gave is assumed)"
INPUT_NORMALISATION = "the input normalisation"
NEURONS = "whether the network spikes, and its neurons' constants"

ALLOWED = "unexplained, allowed"
Copy = Literal["ema", "raw"]
Weights = Literal["auto", "ema", "raw"]
FileKind = Literal["auto", "ann", "spiking"]
OptionA = Literal["pad", "pad-end"]


@dataclass(frozen=True, slots=True)
class SpikingReading:
    """What a state dict of a spiking network does not hold: ``timesteps`` and its ``neuron``, as a recipe's ``student``
    section says them. ``decay`` False leaves the decay to the file, which holds it where neurons learnt it; ``block``
    None is what the names of a SEW network tell, else ``spiking``; ``stem_padding`` None the usual one.
    """

    timesteps: int
    neuron: Neuron
    decay: bool = True
    block: SpikingBlock | None = None
    join: Join = "add"
    coding: Coding = "direct"
    stem_padding: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What to do where a file leaves a choice.

    ``weights`` says which copy is taken of a file with raw and averaged ones (EMA); ``auto`` takes the averaged.
    ``allow_unused`` drops keys that no row explains, where the others are a whole ResNet and those change nothing of
    what it computes. ``scheme`` is a table of the caller's own; what it does not say is as in the known table that
    comes nearest. ``kind`` says whether the network spikes; of one that does ``spiking`` holds what the file does not
    tell. ``root`` is what stands before the names of the network that is meant, of several in a file. ``levels`` are
    those of QCFS activations, of which a file has the thresholds alone; ``lenient`` says that they may be meant for
    another file. ``option_a`` says where shortcuts without weights put their zeros.
    """

    weights: Weights = "auto"
    allow_unused: bool = False
    scheme: Scheme | None = None
    kind: FileKind = "auto"
    spiking: SpikingReading | None = None
    root: str | None = None
    levels: int | None = None
    lenient: bool = False
    option_a: OptionA | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """A checkpoint's network in canonical terms.

    ``names`` maps canonical tensor names, in canonical order, to the file's keys; only tensors that the file has are
    in it. ``dropped`` maps every other key to the reason. ``root`` is what stood before the network's own names
    (``state_dict.module.``). ``unknown`` lists what keys cannot tell; ``architecture`` has the usual choice there:
    kind ``ann``, stride 1 for a 3x3 stem, stride 2 and a max-pool for a 7x7 one, bottlenecks that stride in their
    3x3, averages before the projections of pre-activation networks that have a deep stem. Without a head ``has_head``
    is False, ``ending`` says in words what there is instead, and ``architecture.num_classes`` is 1, which only stands
    in. ``copy`` says whether the weights are averaged ones, ``copies`` which kinds the file has. ``certainty`` is that
    of a layout that no table gave but shapes and order (scheme ``structure``). ``neurons`` says whether the names tell
    that it spikes, and ``decays`` lead from canonical names to the keys of the decays that its neurons learnt, which
    are among the dropped. ``notes`` say in words what was chosen where the file leaves a choice, and what was found by
    its shape alone.
    """

    scheme: str
    architecture: Architecture
    names: Mapping[str, str]
    dropped: Mapping[str, str]
    unknown: tuple[str, ...]
    has_head: bool
    ending: str
    root: str
    copy: Copy
    copies: tuple[Copy, ...]
    certainty: Certainty | None = None
    neurons: Neurons = "unsaid"
    decays: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
