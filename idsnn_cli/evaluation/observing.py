"""What looks on while a network is measured, so that one pass over the images serves several figures."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Observer(Protocol):
    """Sees each batch's logits once."""

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        """``running_TNK[t]`` are the float64 mean logits (N, K) of steps 0..t; ``labels`` are (N,), on one device."""


def confidence_and_right(running_TNK: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """After each step (T, N): the softmax probability of the class that is chosen, and whether it is the right one."""
    confidence_TN = running_TNK.softmax(-1).amax(-1)
    return confidence_TN, running_TNK.argmax(-1) == labels
