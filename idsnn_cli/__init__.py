"""idsnn: turn the ResNets you have into fast, low-latency spiking networks.

``load``, ``save`` and ``initialize`` are imported on first use, so that ``import idsnn_cli`` does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from idsnn_cli.version import __version__

if TYPE_CHECKING:
    from idsnn_cli.initializer import initialize
    from idsnn_cli.models import load, save

__all__ = ["__version__", "initialize", "load", "save"]


def __getattr__(name: str) -> Any:
    if name == "initialize":
        from idsnn_cli.initializer import initialize

        return initialize
    if name == "load":
        from idsnn_cli.models import load

        return load
    if name == "save":
        from idsnn_cli.models import save

        return save
    raise AttributeError(f"module 'idsnn_cli' has no attribute {name!r}")
