"""Calibration: whether a network that says 80 % is right in 80 of 100 cases, after each time step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idsnn_cli.evaluation.observing import confidence_and_right

BINS = 15


class Calibration:
    """Expected calibration error (Guo et al. 2017) in percent: sum over bins of n_b / N |accuracy_b - confidence_b|.

    The bins are (b / B, (b + 1) / B] of the softmax probability of the chosen class, B = 15; logits are the mean over
    the steps so far.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.sums_TB3: Tensor | None = None  # images, confidence, right answers

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        confidence_TN, right_TN = confidence_and_right(running_TNK, labels)
        steps = len(running_TNK)
        place_TN = (confidence_TN * self.bins).ceil().long().clamp(1, self.bins) - 1
        place_TN += torch.arange(steps, device=place_TN.device)[:, None] * self.bins
        values = torch.stack([torch.ones_like(confidence_TN), confidence_TN, right_TN.to(confidence_TN.dtype)], -1)
        sums = torch.zeros(steps * self.bins, 3, dtype=torch.float64)
        sums.index_add_(0, place_TN.flatten().cpu(), values.flatten(0, 1).double().cpu())
        sums = sums.view(steps, self.bins, 3)
        self.sums_TB3 = sums if self.sums_TB3 is None else self.sums_TB3 + sums

    def errors(self) -> list[float]:
        """The error after each step, percent. At least one batch was seen."""
        assert self.sums_TB3 is not None
        images, confidence, right = self.sums_TB3.unbind(-1)
        gaps: Tensor = (right - confidence).abs().sum(1) / images.sum(1)
        return [100 * gap for gap in gaps.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """``ece`` and ``ece_by_step``, percent, and the bins of the last step, whose means are None where empty."""
        assert self.sums_TB3 is not None
        errors = self.errors()
        reliability = [
            {
                "from": number / self.bins,
                "to": (number + 1) / self.bins,
                "images": int(images),
                "confidence": 100 * confidence / images if images else None,
                "accuracy": 100 * right / images if images else None,
            }
            for number, (images, confidence, right) in enumerate(self.sums_TB3[-1].tolist())
        ]
        return {"bins": self.bins, "ece": errors[-1], "ece_by_step": errors, "reliability": reliability}
