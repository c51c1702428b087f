"""Source tensors while a plan is carried out: when each is read and let go, and one look at whether all are finite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from idsnn_cli.initializer.plan import Entry, Plan


class Sources:
    """A plan's source tensors on ``device``, each read when it is first needed and let go after its last use."""

    def __init__(self, plan: Plan, read: Callable[[str], Tensor], device: torch.device) -> None:
        self._read, self._device = read, device
        self._uses = Counter(key for entry in plan.entries for key in set(entry.source_keys()))
        self._held: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor:
        if key not in self._held:
            self._held[key] = self._read(key).to(self._device)
        return self._held[key]

    def done(self, entry: Entry) -> None:
        """No more of ``entry`` is made."""
        for key in set(entry.source_keys()):
            self._uses[key] -= 1
            if not self._uses[key]:
                self._held.pop(key, None)


class Extremes:
    """The smallest and the largest value of many tensors, looked at once: each look waits for the device."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._found: list[Tensor] = []

    def add(self, name: str, value: Tensor) -> None:
        if value.numel():
            self._names += [name, name]
            self._found += torch.aminmax(value.detach())

    def first_not_finite(self) -> str | None:
        """The name of the first tensor that holds NaN or infinity; None where none does."""
        if not self._found:
            return None
        finite = torch.isfinite(torch.stack([each.double() for each in self._found])).tolist()
        return next((name for name, good in zip(self._names, finite, strict=True) if not good), None)
