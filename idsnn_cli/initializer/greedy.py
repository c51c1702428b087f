"""Which blocks a network can do without: the rule ``greedy``."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.errors import UsageError
from idsnn_cli.initializer.activations import evaluating
from idsnn_cli.initializer.blocks import changes
from idsnn_cli.initializer.correcting import reestimate
from idsnn_cli.models import Model
from idsnn_cli.spiking.memory_layout import kernel_format
from idsnn_cli.spiking.precision import in_float64

Batches = Sequence[tuple[Tensor, Tensor]]
Say = Callable[[str], None]
Place = tuple[int, int]


class _Tail(nn.Module):
    """What stands behind the last block: maps (N, C, H, W) to logits (N, K)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        # Registered, so that what it re-estimates includes a last norm; not called as a whole.
        self.model = nn.ModuleDict({name: part for name, part in model.named_children() if name not in _BODY})
        self.ending, self.pooled, self.head = model.ending, model.pooled, model.head

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pooled(self.ending(maps)))
        return logits


# The parts of a network that stand before its end.
_BODY = ("input", "stem", "stages", "encoder")


def greedy_blocks(
    model: Model, depths: Sequence[int], batches: Batches, say: Say | None = None
) -> tuple[tuple[int, ...], ...]:
    """The blocks that ``model``, an ANN, keeps when it is cut to ``depths``, in order, for each stage of ``depths``.

    One at a time the block goes without which the network, its BatchNorm re-estimated on the images, is most accurate
    on ``batches``; of equals the one with the lower loss, then the later one. ``batches`` are images (N, C, H, W) in
    0 to 1 and labels (N,) on the model's device, and are gone through many times. No stage falls below its depth, and a
    stage's first block stays where widths or strides change in it. ``say`` is given one line for each block that goes.
    The model is left as it was. Raises :class:`UsageError` without images, for labels that are no classes of the
    model's, and for a spiking network.
    """
    _check(model, batches)
    search = _Search(copy.deepcopy(model), batches)
    kept = list(model.architecture.blocks())
    left = list(model.architecture.depths)
    while any(have > want for have, want in zip(left, depths, strict=False)):
        allowed = {
            (stage, block)
            for stage, block in kept
            if stage < len(depths)
            and left[stage] > max(depths[stage], 1)
            and not (block == 0 and changes(model.architecture, stage, 0))
        }
        if not allowed:
            break
        correct, loss, place = search.best(kept, allowed)
        kept.remove(place)
        left[place[0]] -= 1
        if say is not None:
            count = search.images
            say(
                f"without block {place[0]}.{place[1]}: {100 * correct / count:.2f} % of {count} images, loss {loss:.4f}"
            )
    stages = range(min(len(depths), len(left)))
    return tuple(tuple(block for stage, block in kept if stage == wanted) for wanted in stages)


def _check(model: Model, batches: Batches) -> None:
    if model.architecture.kind == "spiking":
        raise UsageError("blocks: greedy cuts an ANN, but the source is spiking", "Use another rule for its blocks.")
    if not any(labels.numel() for _, labels in batches):
        raise UsageError("blocks: greedy needs images and labels", "Give the data set, or another rule.")
    classes = model.architecture.num_classes
    highest = max(int(labels.max()) for _, labels in batches if labels.numel())
    if highest >= classes:
        raise UsageError(
            f"blocks: greedy found label {highest}, but the source has {classes} classes",
            "Give the data set that the source was trained on, or another rule.",
        )


class _Search:
    """Scores truncated networks. ``model`` is this object's own: its statistics change."""

    def __init__(self, model: Model, batches: Batches) -> None:
        # Pixels' channels side by side: a third faster on a CPU.
        layout = kernel_format(model.get_buffer("input.mean").device)
        self.model = model.to(memory_format=layout)
        self.tail = _Tail(model)
        filled = [(images, labels) for images, labels in batches if labels.numel()]
        self.batches = [images.contiguous(memory_format=layout) for images, _ in filled]
        self.labels = [labels for _, labels in filled]
        self.images = sum(labels.numel() for labels in self.labels)

    def best(self, kept: list[Place], allowed: set[Place]) -> tuple[int, float, Place]:
        """(correct answers, mean loss, block) of the best network that one of the ``allowed`` blocks is gone from.

        All candidates share what runs before the block that goes, so one walk along the network carries both the maps
        of its re-estimation (training mode) and those of its evaluation, and only what follows is run for each.
        """
        chain = [self.model.stages.get_submodule(f"{stage}.{block}") for stage, block in kept]
        found = []
        with evaluating(self.model):
            training, evaluated = _advance(nn.Sequential(self.model.input, self.model.stem), self.batches, self.batches)
            for place, (at, block) in enumerate(zip(kept, chain, strict=True)):
                if at in allowed:
                    rest = nn.Sequential(*chain[place + 1 :], self.tail).eval()
                    found.append((*self._score(rest, training, evaluated), at))
                training, evaluated = _advance(block, training, evaluated)
        return min(found, key=lambda each: (-each[0], each[1], tuple(-number for number in each[2])))

    def _score(self, rest: nn.Module, training: list[Tensor], evaluated: list[Tensor]) -> tuple[int, float]:
        reestimate(rest, training)
        correct, loss = 0, 0.0
        for maps, labels in zip(evaluated, self.labels, strict=True):
            logits = rest(maps)
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(wide := in_float64(logits), labels.to(wide.device), reduction="sum"))
        mean = loss / self.images
        return correct, mean if math.isfinite(mean) else math.inf


def _advance(
    part: nn.Module, training: Iterable[Tensor], evaluated: Iterable[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Re-estimate ``part`` and run both kinds of maps through it."""
    outputs: list[Tensor] = []
    handle = part.register_forward_hook(lambda _module, _inputs, maps: outputs.append(maps))
    try:
        reestimate(part, training)
    finally:
        handle.remove()
    part.eval()
    with torch.no_grad():
        return outputs, [part(maps) for maps in evaluated]
