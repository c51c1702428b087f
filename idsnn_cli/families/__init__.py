"""Every family's tensor names to canonical ones: scheme tables as data, and the recognisers."""

from __future__ import annotations

from idsnn_cli.families.anyone import recognise
from idsnn_cli.families.learnt_decays import as_ours
from idsnn_cli.families.reading import (
    ALLOWED,
    AVERAGED_SHORTCUTS,
    BOTTLENECK_STRIDE,
    INPUT_NORMALISATION,
    NEURONS,
    OPTION_A_CHANNELS,
    STEM_STRIDE,
    Copy,
    FileKind,
    OptionA,
    Reading,
    Recognised,
    SpikingReading,
    Weights,
)
from idsnn_cli.families.scheme import Neurons, Row, Scheme, Trait
from idsnn_cli.families.schemes import SCHEMES
from idsnn_cli.families.structure import Certainty

__all__ = [
    "ALLOWED",
    "AVERAGED_SHORTCUTS",
    "BOTTLENECK_STRIDE",
    "INPUT_NORMALISATION",
    "NEURONS",
    "OPTION_A_CHANNELS",
    "SCHEMES",
    "STEM_STRIDE",
    "Certainty",
    "Copy",
    "FileKind",
    "Neurons",
    "OptionA",
    "Reading",
    "Recognised",
    "Row",
    "Scheme",
    "SpikingReading",
    "Trait",
    "Weights",
    "as_ours",
    "recognise",
]
