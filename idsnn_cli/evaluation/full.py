"""Every measure that was asked for, with as few passes over the images as they need."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.evaluation.activity import SpikeCounter
from idsnn_cli.evaluation.calibration import Calibration
from idsnn_cli.evaluation.confusion import Confusion
from idsnn_cli.evaluation.early_exit import EarlyExit
from idsnn_cli.evaluation.energy import OperationCounter
from idsnn_cli.evaluation.latency import measure_latency
from idsnn_cli.evaluation.observing import Observer
from idsnn_cli.evaluation.robustness import Batches, measure_robustness
from idsnn_cli.models import Model, prolonged
from idsnn_cli.recipe.schema import Measure


def measure_fully(
    model: Model,
    batches: Batches,
    measures: Collection[Measure],
    *,
    seed: int = 0,
    timesteps: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Evaluation, dict[str, Any]]:
    """The plain figures, and those of ``measures`` by name (``early-exit`` under ``early_exit``).

    ``batches()`` starts over with all images (N, C, H, W) in 0 to 1 and labels (N,), in order, on the model's device.
    Activity, energy, calibration, early exit and confusion look on during the pass that the plain figures take,
    which ``images_per_second`` then includes (``latency`` times the network alone);
    ``beyond`` is one more, ``robustness`` fifteen. ``timesteps`` is how far ``beyond`` goes (2T unless given). What
    needs time steps is None for an ANN. Raises :class:`DataError` where there is no image, and :class:`UsageError`
    where ``timesteps`` is not beyond the network's own.
    """
    architecture = model.architecture
    spiking = architecture.kind == "spiking"
    longer = prolonged(model, timesteps or 2 * architecture.timesteps) if spiking and "beyond" in measures else None
    calibration, confusion, early = Calibration(), Confusion(architecture.num_classes), EarlyExit()
    spikes = SpikeCounter(model)
    reads_values, learnt = architecture.reading_values(), architecture.amplitude == "channel"
    sums = spiking and architecture.spiking_block == "sew" and architecture.join == "add"
    operations = OperationCounter(model, architecture.timesteps, reads_values, amplitudes=learnt, sums=sums)
    observers: dict[Measure, Observer] = {"calibration": calibration, "confusion": confusion, "early-exit": early}
    with ExitStack() as stack:
        if "activity" in measures:
            stack.enter_context(spikes)
        if "energy" in measures:
            stack.enter_context(operations)
        looking = [observer for name, observer in observers.items() if name in measures]
        plain = evaluate(model, batches(), seed=seed, observers=looking)
    found: dict[str, Any] = {}
    if "activity" in measures:
        found["activity"] = spikes.to_list() if spiking else None
    if "energy" in measures:
        found["energy"] = operations.to_dict()
    if "calibration" in measures:
        found["calibration"] = calibration.to_dict()
    if "early-exit" in measures:
        found["early_exit"] = early.to_list() if spiking else None
    if "confusion" in measures:
        found["confusion"] = confusion.to_list()
    if "beyond" in measures:
        found["beyond"] = None if longer is None else _beyond(longer, batches, seed, say)
    if "latency" in measures:
        images, _ = next(iter(batches()))
        found["latency"] = measure_latency(model, images)
    if "robustness" in measures:
        found["robustness"] = measure_robustness(model, batches, seed=seed, say=say)
    return plain, found


def _beyond(longer: Model, batches: Batches, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    timesteps = longer.architecture.timesteps
    say(f"the same weights for {timesteps} steps")
    calibration = Calibration()
    figures = evaluate(longer, batches(), seed=seed, observers=[calibration])
    return {"timesteps": timesteps, "top1_by_step": figures.top1_by_step, "ece_by_step": calibration.errors()}
