"""idsnn: turn the ResNets you have into fast, low-latency spiking networks.

What the commands do is a call, too; docs/python.md shows each. All are imported on first use, so that ``import
idsnn_cli`` does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.registry import handed_out
from idsnn_cli.version import __version__

if TYPE_CHECKING:
    from idsnn_cli.initializer import initialize
    from idsnn_cli.models import load, save
    from idsnn_cli.pipeline.calls import convert, distill, evaluate, evaluate_run
    from idsnn_cli.training import Events

__all__ = [
    "Events",
    "__version__",
    "convert",
    "distill",
    "evaluate",
    "evaluate_run",
    "initialize",
    "load",
    "save",
]

__getattr__ = handed_out(
    __name__,
    {
        "initializer": ("initialize",),
        "models": ("load", "save"),
        "pipeline.calls": ("convert", "distill", "evaluate", "evaluate_run"),
        "training": ("Events",),
    },
)


def __dir__() -> list[str]:
    """What is here, the calls too that nobody has used yet, so that a notebook's TAB key offers them."""
    return sorted({*globals(), *__all__})
