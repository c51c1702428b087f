"""Forward hooks on some of a network's layers, for as long as a ``with`` block lasts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from torch import nn
from torch.utils.hooks import RemovableHandle


class Watcher(ABC):
    """Counts what the ``layers``, by name, compute inside the block."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self.layers = layers
        self._hooks: list[RemovableHandle] = []

    @abstractmethod
    def _counting(self, name: str) -> Any:
        """The forward hook of the layer ``name``."""

    def __enter__(self) -> Self:
        for name, module in self.layers.items():
            self._hooks.append(module.register_forward_hook(self._counting(name)))
        return self

    def __exit__(self, *error: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()
