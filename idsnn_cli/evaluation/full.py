"""Every measure that was asked for, with as few passes over the images as they need."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.evaluation.measure import Batches, ObservingMeasure, RunningMeasure, Work, find_measure, key_of
from idsnn_cli.models import Model


def measure_fully(
    model: Model,
    batches: Batches,
    measures: Collection[str],
    *,
    seed: int = 0,
    timesteps: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Evaluation, dict[str, Any]]:
    """The plain figures, and what ``measures`` found, by their JSON keys and in the order of their names.

    ``batches()`` starts over with all images (N, C, H, W) in 0 to 1 and labels (N,), in order, on the model's device.
    Measures that only look on do so during the pass that the plain figures take, which ``images_per_second`` then
    includes (``latency`` times the network alone); ``beyond`` is one more, ``robustness`` fifteen. ``timesteps`` is how
    far ``beyond`` goes (2T unless given). What needs time steps is None for an ANN. Raises :class:`DataError` where
    there is no image, and :class:`UsageError` where ``timesteps`` is not beyond the network's own.
    """
    work = Work(model, batches, seed, timesteps, say)
    spiking = model.architecture.kind == "spiking"
    asked = {name: find_measure(name) for name in sorted(measures)}
    possible = {name: each for name, each in asked.items() if spiking or not each.needs_steps}
    for each in possible.values():
        each.check(work)
    with ExitStack() as stack:
        looking = {
            name: stack.enter_context(each.observe(work))
            for name, each in possible.items()
            if isinstance(each, ObservingMeasure)
        }
        plain = evaluate(model, batches(), seed=seed, observers=list(looking.values()))
    found: dict[str, Any] = dict.fromkeys(map(key_of, asked))
    for name, each in possible.items():
        found[key_of(name)] = each.run(work) if isinstance(each, RunningMeasure) else looking[name].result()
    return plain, found
