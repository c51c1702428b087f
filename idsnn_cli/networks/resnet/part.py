"""What a ResNet is made of: stem, pool, blocks, shortcuts and attention, each kind a class that knows its own layers.

Each class has the ``kind`` that descriptions as plain data give it, and :meth:`~Part.traits`, its keys there. A new
kind is a new class in the table of its sort.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

Shapes = dict[str, tuple[int, ...]]


class Part(ABC):
    """One trait of a ResNet; ``spiking`` says whether a spiking network may have it."""

    kind: ClassVar[str]
    spiking: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, traits: Mapping[str, Any]) -> Self:
        """The part that plain data describes; the data is known to fit it."""

    @abstractmethod
    def traits(self) -> dict[str, Any]:
        """Its keys in plain data."""

    def words(self) -> list[str]:
        """What a plain network does not have, in words."""
        return []
