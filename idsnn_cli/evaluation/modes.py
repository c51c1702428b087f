"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode inside ``with``, and as it was behind it."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
