"""The spiking layers: neuron, surrogates, BatchNorm over time, encoders; each imported on its first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.registry import handed_out

if TYPE_CHECKING:
    from idsnn_cli.spiking.encoding import PoissonEncoder, seed_encoders
    from idsnn_cli.spiking.fused import fire
    from idsnn_cli.spiking.learnt_decay import decay_of, first_logit
    from idsnn_cli.spiking.neuron import LIF, lif
    from idsnn_cli.spiking.norm import BatchNorm
    from idsnn_cli.spiking.reference import lif_reference

__all__ = [
    "LIF",
    "BatchNorm",
    "PoissonEncoder",
    "add_normed",
    "decay_of",
    "fire",
    "fire_membranes",
    "first_logit",
    "lif",
    "lif_reference",
    "seed_encoders",
]

__getattr__ = handed_out(
    __name__,
    {
        "encoding": ("PoissonEncoder", "seed_encoders"),
        "fused": ("fire",),
        "membranes": ("add_normed", "fire_membranes"),
        "learnt_decay": ("decay_of", "first_logit"),
        "neuron": ("LIF", "lif"),
        "norm": ("BatchNorm",),
        "reference": ("lif_reference",),
    },
)
