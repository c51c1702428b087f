"""Which classes are taken for which."""

from __future__ import annotations

import torch
from torch import Tensor


class Confusion:
    """Counts by true class (rows) and chosen class (columns), after the last step."""

    def __init__(self, num_classes: int) -> None:
        self.counts_KK = torch.zeros(num_classes, num_classes, dtype=torch.long)

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        classes = len(self.counts_KK)
        pairs = labels * classes + running_TNK[-1].argmax(-1)
        self.counts_KK += torch.bincount(pairs, minlength=classes * classes).view(classes, classes).cpu()

    def to_list(self) -> list[list[int]]:
        rows: list[list[int]] = self.counts_KK.tolist()
        return rows
