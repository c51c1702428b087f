"""Accuracy on worse images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from idsnn_cli.evaluation.accuracy import evaluate
from idsnn_cli.evaluation.corruptions import STRENGTHS, corruption
from idsnn_cli.models import Model

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


def measure_robustness(
    model: Model, batches: Batches, *, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> dict[str, list[dict[str, Any]]]:
    """For each corruption of :mod:`~idsnn_cli.evaluation.corruptions`, weakest first, its ``strength`` and ``top1``.

    ``batches()`` starts over with all images, in order; every strength of every corruption is one pass. ``seed`` fixes
    the noise and Poisson spikes. ``say`` is told which corruption is next.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, strengths in STRENGTHS.items():
        say(f"robustness to {name}")
        found[name] = [
            {"strength": strength, "top1": evaluate(model, _corrupted(batches(), name, strength, seed), seed=seed).top1}
            for strength in strengths
        ]
    return found


def _corrupted(
    batches: Iterable[tuple[Tensor, Tensor]], name: str, strength: float, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    change, first = corruption(name, strength, seed), 0
    for images, labels in batches:
        yield change(images, first), labels
        first += len(labels)
