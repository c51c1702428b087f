"""The mapping rules that there are, each a decorated function with its words beside it.

A file of ``idsnn_cli/initializer/rules/`` holds any number of them. A rule asks for what it needs by the names of its
parameters, which are listed at its decorator: what has to be found, whether a network has to run on images, and which
sources and targets the rule is for all follow from them. Choices, help, checks and the pages follow from the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from idsnn_cli import registry
from idsnn_cli.errors import UsageError, did_you_mean

PACKAGE = "idsnn_cli.initializer.rules"
# Of a value that no rule changes.
NONE = "none"

F = TypeVar("F", bound=Callable[..., Any])

# The kinds, by the key that chooses among them, each with what a rule of it may ask for.
_MAY_ASK = {
    "blocks": frozenset({"block", "depth", "source_depth", "model", "depths", "batches", "say"}),
    "channels": frozenset({"have", "count", "scores", "correlations", "generator"}),
    "input": frozenset({"have", "count"}),
    "kernels": frozenset({"weight", "to"}),
    "rescale": frozenset({"planner", "thresholds", "neuron"}),
    "convert": frozenset({"twin", "student", "images", "percentile", "learnt"}),
}
# Those that may be left out.
_OPTIONAL = ("rescale", "convert")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: the ``kind`` is the key that chooses it, ``words`` are for the pages, ``hint`` for a line of help.

    ``asks`` holds the names of its parameters. ``whole`` and ``pads`` are said by :func:`channel_rule` and
    :func:`kernel_rule`.
    """

    kind: str
    name: str
    words: str
    hint: str
    asks: frozenset[str]
    function: Callable[..., Any]
    whole: bool = False
    pads: bool = False

    def __call__(self, **facts: Any) -> Any:
        """What the rule makes of those of ``facts`` that it asks for."""
        return self.function(**{name: facts[name] for name in self.asks})

    def __str__(self) -> str:
        """As a recipe writes it: ``blocks: greedy``."""
        return f"{self.kind}: {self.name}"

    @property
    def searches(self) -> bool:
        """Whether it runs the source on labelled images to choose blocks."""
        return "model" in self.asks

    @property
    def always_looks(self) -> bool:
        """Whether a network has to run on images: the source before a plan is made, or what is made of it."""
        return bool(self.asks & {"model", "thresholds", "images"})

    @property
    def merges(self) -> bool:
        """Whether the source has to run where the target has fewer channels."""
        return "correlations" in self.asks

    @property
    def of_activations(self) -> bool:
        """Whether it reads what an ANN's activations are, which a spiking source does not have."""
        return self.kind == "convert" or bool(self.asks & {"model", "thresholds"})


def depth_rule(name: str, words: str, *, hint: str = "") -> Callable[[F], F]:
    """``blocks``: which source block each block of a target's stage takes.

    Of ``(block, depth, source_depth)``, three numbers, the function gives the source block of the target's ``block``,
    counted from 0, where the stages have ``depth`` and ``source_depth`` blocks. Or it searches: of ``(model, depths,
    batches, say)`` it gives the blocks to keep, a list for each stage of ``depths``, having run the ANN ``model`` on
    ``batches`` of images (N, C, H, W) in 0 to 1 and labels (N,) on the model's device, which is left as it was; ``say``
    takes lines of progress, or is None. A search needs a source with its linear layer and the target's classes.
    """
    return _declared("blocks", name, words, hint)


def channel_rule(name: str, words: str, *, hint: str = "", whole: bool = False) -> Callable[[F], F]:
    """``channels``: which source channels make up a target's, asked for each residual stream and each inner width.

    Of ``(have, count)``, two different numbers, the function gives for each of ``count`` channels the place, from 0, of
    the one of ``have`` that it takes, or a tuple of several that are averaged. It may ask for ``scores``, how much each
    of them counts by its BatchNorms (None where there are none); for ``correlations`` (have, have), float64, of their
    activations on images, which are known where there are more than are wanted, else None; and for ``generator``, a
    torch.Generator whose seed is that of this choice. ``whole`` says that it chooses among all of a stream, also where
    an option-A shortcut carries some channels unchanged from the one before.
    """
    return _declared("channels", name, words, hint, whole=whole)


def input_rule(name: str, words: str, *, hint: str = "") -> Callable[[F], F]:
    """``input``: which channels of the source's images the stem reads as the target's.

    Of ``(have, count)``, two different numbers, the function gives for each of ``count`` channels the source's, a tuple
    of places from 0, whose kernels are added up. Whatever it chooses, a kernel that is used several times is divided by
    that number, and all are scaled up for those that are not used, so that grey images give what they gave.
    """
    return _declared("input", name, words, hint)


def kernel_rule(name: str, words: str, *, hint: str, pads: bool = False) -> Callable[[F], F]:
    """``kernels``: a kernel ``weight`` (O, I, k, k), k > 1, as one (O, I, to, to).

    ``hint`` says how, in words behind "3x3 to 7x7". ``pads`` says that zeros around the kernel are all that a larger
    one has, so that they may be added last.
    """
    return _declared("kernels", name, words, hint, pads=pads)


def rescale_rule(name: str, words: str, *, hint: str = "") -> Callable[[F], F]:
    """``rescale``: target tensor -> what its values are multiplied by, 1 where it is left out.

    Of ``planner``, the finished :class:`~idsnn_cli.initializer.entries.Planner`. It may ask for ``thresholds``, lambda
    of each of the source's channel spaces on images, and for ``neuron``, the spiking target's.
    """
    return _declared("rescale", name, words, hint)


def conversion(name: str, words: str, *, hint: str = "") -> Callable[[F], F]:
    """``convert``: lambda of each of the target's channel spaces, what one spike at every step stands for.

    Of ``twin``, the ANN of the target's blocks and widths, or of ``student``, the spiking network with the ANN's
    tensors, which may be changed; of ``images``, batches (N, C, H, W) in 0 to 1 on their device; of the
    ``percentile`` that lambda is; and of ``learnt``, lambda of each space as a QCFS source learnt it.
    """
    return _declared("convert", name, words, hint)


def names(kind: str) -> tuple[str, ...]:
    """The rules to choose from, in the order of their files and in them."""
    return (*((NONE,) if kind in _OPTIONAL else ()), *_book()[kind])


def rules(kind: str) -> tuple[Rule, ...]:
    return tuple(_book()[kind].values())


def rule(kind: str, name: str) -> Rule:
    """Raises :class:`UsageError` for a rule that there is not."""
    known = _book()[kind]
    if name not in known:
        raise UsageError(
            f"'{name}' is no rule of {kind}.{did_you_mean(name, known)}", f"Give one of {', '.join(known)}."
        )
    return known[name]


_DECLARED: dict[str, dict[str, Rule]] = {kind: {} for kind in _MAY_ASK}


@cache
def _book() -> dict[str, dict[str, Rule]]:
    for each in registry.names(PACKAGE):
        import_module(f"{PACKAGE}.{each.replace('-', '_')}")
    return _DECLARED


def _declared(
    kind: str, name: str, words: str, hint: str, *, whole: bool = False, pads: bool = False
) -> Callable[[F], F]:
    def declare(function: F) -> F:
        asks = frozenset(inspect.signature(function).parameters)
        strange = asks - _MAY_ASK[kind]
        if strange:
            raise TypeError(f"{kind}: {name} asks for {_listed(strange)}, but there is {_listed(_MAY_ASK[kind])}")
        there = _DECLARED[kind].get(name)
        if there is not None or name == NONE:
            other = "that there is none" if there is None else f"the rule of {there.function.__module__}"
            raise TypeError(f"{kind}: {name} in {function.__module__} stands for {other}, too")
        _DECLARED[kind][name] = Rule(kind, name, words, hint, asks, function, whole, pads)
        return function

    return declare


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
