"""Measuring a model."""

from idsnn_cli.evaluation.accuracy import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
