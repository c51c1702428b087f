"""Early exit: an image leaves the network as soon as it is sure enough."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idsnn_cli.errors import DataError
from idsnn_cli.evaluation.observing import confidence_and_right

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class EarlyExit:
    """Accuracy against mean time steps, for each confidence threshold.

    An image exits after the first step t whose mean logits so far give the chosen class a softmax probability of the
    threshold or more, and after the last step at the latest.
    """

    def __init__(self, thresholds: tuple[float, ...] = THRESHOLDS) -> None:
        self.thresholds = thresholds
        self.right = [0] * len(thresholds)
        self.exits: list[Tensor | int] = [0] * len(thresholds)

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        confidence_TN, right_TN = confidence_and_right(running_TNK, labels)
        for place, threshold in enumerate(self.thresholds):
            ready_TN = confidence_TN >= threshold
            ready_TN[-1] = True
            first_N = ready_TN.int().argmax(0)  # the first of several maxima
            self.right[place] += int(right_TN.gather(0, first_N[None]).sum())
            self.exits[place] = self.exits[place] + torch.bincount(first_N, minlength=len(running_TNK)).cpu()

    def to_list(self) -> list[dict[str, Any]]:
        """For each threshold ``top1`` (percent), ``mean_steps``, and ``exits``: how many images left after each step.

        Raises :class:`DataError` where no image was seen.
        """
        rows = []
        for threshold, right, exits in zip(self.thresholds, self.right, self.exits, strict=True):
            counts = exits.tolist() if isinstance(exits, Tensor) else []
            images = sum(counts)
            if not images:
                raise DataError("there are no images to measure on", "Choose a split or a subset that holds some.")
            steps = sum(step * count for step, count in enumerate(counts, 1))
            rows.append(
                {"threshold": threshold, "top1": 100 * right / images, "mean_steps": steps / images, "exits": counts}
            )
        return rows
