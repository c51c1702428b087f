"""What looks on while a network is measured, so that one pass over the images serves several measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, Self, TypeVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Found = TypeVar("Found")


class Observer(Protocol):
    """Sees each batch's logits once."""

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        """``running_TNK[t]`` are the float64 mean logits (N, K) of steps 0..t; ``labels`` are (N,), on one device."""


class Observation(ABC, Generic[Found]):
    """One measure's look at a pass: it enters before the first batch, sees each one's logits, and leaves behind the
    last; then :meth:`result` is what it found.
    """

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        """As :meth:`Observer.see`; what watches layers looks at no logits."""
        return

    @abstractmethod
    def result(self) -> Found:
        """What was found, after at least one batch."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return


Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


class Watcher(Observation[Found]):
    """Counts what some ``layers``, by name, compute: forward hooks for as long as the pass lasts."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self.layers = layers
        self._hooks: list[RemovableHandle] = []

    @abstractmethod
    def _counting(self, name: str) -> Hook:
        """The forward hook of the layer ``name``."""

    def __enter__(self) -> Self:
        for name, module in self.layers.items():
            self._hooks.append(module.register_forward_hook(self._counting(name)))
        return self

    def __exit__(self, *error: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()


def confidence_and_right(running_TNK: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """After each step (T, N): the softmax probability of the class that is chosen, and whether it is the right one."""
    confidence_TN = running_TNK.softmax(-1).amax(-1)
    return confidence_TN, running_TNK.argmax(-1) == labels


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode inside ``with``, and as it was behind it."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
