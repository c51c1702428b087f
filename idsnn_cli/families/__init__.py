"""Every ResNet family's tensor names to canonical ones: scheme tables as data, and the recogniser."""

from __future__ import annotations

from idsnn_cli.families.recogniser import (
    ALLOWED,
    AVERAGED_SHORTCUTS,
    BOTTLENECK_STRIDE,
    INPUT_NORMALISATION,
    NEURONS,
    OPTION_A_CHANNELS,
    STEM_STRIDE,
    Copy,
    Reading,
    Recognised,
    Weights,
    recognise,
)
from idsnn_cli.families.scheme import Row, Scheme
from idsnn_cli.families.schemes import SCHEMES

__all__ = [
    "ALLOWED",
    "AVERAGED_SHORTCUTS",
    "BOTTLENECK_STRIDE",
    "INPUT_NORMALISATION",
    "NEURONS",
    "OPTION_A_CHANNELS",
    "SCHEMES",
    "STEM_STRIDE",
    "Copy",
    "Reading",
    "Recognised",
    "Row",
    "Scheme",
    "Weights",
    "recognise",
]
