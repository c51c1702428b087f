"""The spiking layers: neuron, surrogates, BatchNorm over time, encoders."""

from idsnn_cli.spiking.encoding import PoissonEncoder, seed_encoders
from idsnn_cli.spiking.firing import fire
from idsnn_cli.spiking.lif import LIF, lif
from idsnn_cli.spiking.norm import BatchNorm
from idsnn_cli.spiking.reference import lif_reference
from idsnn_cli.spiking.surrogate import SURROGATES, derivative

__all__ = [
    "LIF",
    "SURROGATES",
    "BatchNorm",
    "PoissonEncoder",
    "derivative",
    "fire",
    "lif",
    "lif_reference",
    "seed_encoders",
]
