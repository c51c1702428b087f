"""What multiplies the values that are taken: ``rescale``, which goes with training, and ``convert``, without any."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from idsnn_cli.errors import UsageError
from idsnn_cli.rulebook import conversion, rescale_rule

if TYPE_CHECKING:
    from torch import Tensor

    from idsnn_cli.architecture import Neuron
    from idsnn_cli.initializer.entries import Planner
    from idsnn_cli.models import Model


@rescale_rule("variance", "scales kernels by their size, by sqrt(O k^2 / (O' k'^2))", hint="of kernels")
def variance(planner: Planner) -> dict[str, float]:
    """The authors' code's, which the paper does not tell of."""
    return {
        f"{conv.name}.weight": math.sqrt(taken.out_channels * taken.kernel**2 / (conv.out_channels * conv.kernel**2))
        for conv, taken in planner.taken
    }


@rescale_rule(
    "threshold",
    "multiplies gamma and beta by v_threshold / lambda (threshold balancing)",
    hint="gamma and beta by the activations",
)
def threshold(planner: Planner, thresholds: Mapping[str, float], neuron: Neuron) -> dict[str, float]:
    """Threshold balancing: what a ReLU gave as lambda, the neuron gives as one spike a step.

    gamma and beta times v_threshold / lambda of the space that the norm writes; the statistics and the linear layer
    follow their inputs, which are lambda times smaller. Spaces that identities join share the largest lambda.
    """
    if planner.target.hidden_layers():
        raise UsageError("rescale: threshold is for networks of one linear layer", "Use rescale: none.")
    largest: dict[str, float] = {}
    for space, sources in planner.made_of.items():
        known = [thresholds[each] for each in sources if each in thresholds]
        root = planner.ours.linked(space)
        largest[root] = max([*known, largest.get(root, 0.0)])
    if not any(largest.values()):
        raise UsageError("rescale: threshold needs images", "Give the data set, or another rule.")

    def limit(space: str) -> float:
        return largest.get(planner.ours.linked(space)) or 1.0

    factors = {"head.weight": limit(planner.ours.features)}
    for conv in planner.target.convolutions():
        into, out = 1.0 / limit(planner.ours.reads[conv.name]), limit(planner.ours.writes[conv.name])
        # A sum of membranes is in units of the threshold, spikes are not.
        into *= neuron.v_threshold if conv.name in planner.target.reading_membranes() else 1.0
        fire = neuron.v_threshold / out
        for part, scale in (("weight", fire), ("bias", fire), ("running_mean", into), ("running_var", into**2)):
            factors[f"{conv.norm}.{part}"] = scale
    return factors


@conversion("weight-normalisation", "lambda is the percentile of the ANN's activations")
def weight_normalisation(twin: Model, images: Sequence[Tensor], percentile: float) -> Mapping[str, float]:
    from idsnn_cli.initializer.thresholds import thresholds

    return thresholds(twin, images, percentile)


@conversion("threshold-balancing", "lambda is that of the spiking network's own input currents, layer after layer")
def threshold_balancing(student: Model, images: Sequence[Tensor], percentile: float) -> Mapping[str, float]:
    from idsnn_cli.initializer.conversion import scales
    from idsnn_cli.initializer.thresholds import balance_currents

    return balance_currents(student, images, percentile, scales)


@conversion("learnt-thresholds", "lambda is what the activations of a QCFS source learnt", hint="QCFS")
def learnt_thresholds(learnt: Mapping[str, float]) -> Mapping[str, float]:
    return learnt
