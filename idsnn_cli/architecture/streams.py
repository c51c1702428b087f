"""The channel spaces of a network: which convolutions, norms and linear layers must agree about the same channels.

Names: ``input``, ``stem.{i}`` inside a deep stem, ``stem`` and ``stages.{s}`` for residual streams (a stem whose output
the first block adds to is of stream ``stages.0``), ``stages.{s}.{b}.inner{i}`` behind convolution i of a block, and
``stages.{s}.{b}.attention`` inside squeeze-and-excitation.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Nested:
    """An option-A shortcut: the channels of stream ``inner`` stand in stream ``outer`` from ``offset`` on."""

    inner: str
    outer: str
    offset: int


@dataclass(frozen=True, slots=True)
class Spaces:
    """``sizes``: space -> channels; ``reads`` and ``writes``: convolution name -> space; ``norms``: norm name -> space.

    ``nested`` holds the option-A shortcuts, by the outer stream; ``features`` is the space that the head reads.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    writes: dict[str, str] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)
    nested: dict[str, Nested] = field(default_factory=dict)
    features: str = ""

    def linked(self, space: str) -> str:
        """The first stream whose values option-A shortcuts carry unchanged into ``space``; itself without such."""
        while space in self.nested:
            space = self.nested[space].inner
        return space
