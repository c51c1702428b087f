"""What a checkpoint says about itself: no times, rates or paths, so that the same run writes the same bytes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.data import DataBundle
from idsnn_cli.version import __version__

# Parts of a history record that depend on the machine's speed.
TIMED = ("seconds", "images_per_second")


def describe(
    kind: str,
    architecture: Architecture,
    *,
    recipe: dict[str, Any],
    provenance: dict[str, Any],
    data: DataBundle | None = None,
    mapping: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of one checkpoint. ``kind`` is teacher, pretrain, init, student or baseline."""
    described: dict[str, Any] = {
        "kind": kind,
        "architecture": architecture.to_dict(),
        "recipe": recipe,
        "provenance": provenance,
        "metrics": {key: value for key, value in (metrics or {}).items() if key not in TIMED},
        "versions": versions(),
    }
    if mapping is not None:
        described["mapping"] = mapping
    if data is not None:
        described["data"] = {"name": data.name, "classes": list(data.classes), "fingerprint": data.fingerprint}
    return described


def versions() -> dict[str, str]:
    """The libraries that decide what the numbers are."""
    return {"idsnn": __version__, "torch": version("torch"), "torchvision": version("torchvision")}
