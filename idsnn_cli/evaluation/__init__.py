"""Measuring a model."""

from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.evaluation.full import measure_fully
from idsnn_cli.evaluation.normalisation import NormalisationVerdict, find_normalisation

__all__ = ["Evaluation", "NormalisationVerdict", "evaluate", "find_normalisation", "measure_fully"]
