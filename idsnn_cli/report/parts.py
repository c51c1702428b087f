"""The parts of a block: its tensors, grouped by what was done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from idsnn_cli.initializer import Entry, Plan
from idsnn_cli.report.treatment import Treatment, treatment_of

COUNTER, STATISTICS = "num_batches_tracked", ("running_mean", "running_var")


@dataclass(slots=True)
class _Part:
    """``scale`` is the kernels'; ``scales`` holds every tensor's that is not 1."""

    how: Treatment
    scale: float | None
    tensors: list[str] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        self.tensors.append(entry.target)
        if entry.source is not None and entry.scale != 1.0:
            self.scales[entry.target] = entry.scale


def describe_parts(block: str, entries: Sequence[Entry], plan: Plan) -> list[dict[str, Any]]:
    """What was done to the ``entries`` of ``block``, those that were treated alike in one.

    Each part has its ``modules``, the ``tensors`` in them, the ``action`` (taken, random or constant), the channels
    ``output`` and ``input`` as :class:`Channels` has them (``selection`` is a place in the mapping's ``selections``),
    the ``kernel`` rule in words, ``divided``, ``noise``, ``scales`` by tensor where they are not 1, the ``reason``, and
    all that in ``words``.
    """
    parts: list[_Part] = []
    last: _Part | None = None
    for entry in entries:
        last = _place(entry, treatment_of(entry, plan), parts, last)
    return [_described(part, block, [entry.target for entry in entries]) for part in parts]


def noted(entries: Sequence[Entry]) -> list[Entry]:
    """Statistics and betas that were treated as their BatchNorm's gamma and then changed, as their reason says."""
    by_name = {entry.target: entry for entry in entries}
    found = []
    for entry in entries:
        module, _, leaf = entry.target.rpartition(".")
        gamma = by_name.get(f"{module}.weight")
        if leaf in (*STATISTICS, "bias") and gamma is not None and entry.reason is not None:
            same = (entry.source is None) == (gamma.source is None) and entry.reason != gamma.reason
            found += [entry] if same else []
    return found


def _place(entry: Entry, how: Treatment, parts: list[_Part], last: _Part | None) -> _Part:
    """Add ``entry`` to the part that was treated alike; a BatchNorm joins the kernel before it, of its outputs."""
    scale = entry.scale if how.input is not None else None
    for part in parts if last is None else [last, *parts]:
        joins = how.action == "taken" == part.how.action and how.input is None and part.how.output == how.output
        if joins or (part.how == how and part.scale == scale):
            part.add(entry)
            return part
    parts.append(_Part(how, scale))
    parts[-1].add(entry)
    return parts[-1]


def _described(part: _Part, block: str, all_tensors: list[str]) -> dict[str, Any]:
    return {
        "modules": _modules(part.tensors, block, all_tensors),
        "tensors": part.tensors,
        **part.how.to_dict(),
        "scales": part.scales,
        "words": ", ".join([part.how.words(), *_scale_words(part, block)]),
    }


def _scale_words(part: _Part, block: str) -> list[str]:
    words = [] if part.scale in (None, 1.0) else [f"{'weights' if block == 'head' else 'kernel'} x{part.scale:.4g}"]
    for name, scale in part.scales.items():
        module, _, leaf = name.removeprefix(f"{block}.").rpartition(".")
        # The statistics follow the inputs' scale, which another layer's gamma says already.
        if leaf == "weight" and module.rpartition(".")[2].startswith(("norm", "final_norm")):
            words.append(f"{module} gamma and beta x{scale:.3g}")
    return words


def _modules(tensors: list[str], block: str, all_tensors: list[str]) -> list[str]:
    """The modules of ``block`` that ``tensors`` are; single tensors where only some of a module's are among them."""
    names: list[str] = []
    for tensor in tensors:
        module = tensor.rpartition(".")[0]
        siblings = [name for name in all_tensors if name.rpartition(".")[0] == module]
        whole = module != block and set(siblings) <= set(tensors)
        name = (module if whole else tensor).removeprefix(f"{block}.")
        if name not in names:
            names.append(name)
    # A projection whose kernel and BatchNorm were treated alike is one thing to a reader.
    if {"shortcut.conv", "shortcut.norm"} <= set(names):
        names[names.index("shortcut.conv")] = "shortcut"
        names.remove("shortcut.norm")
    return names
