"""Accuracy and loss of a network, ANN or spiking, after each of its time steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.errors import DataError, NonFiniteError
from idsnn_cli.evaluation.observation import Observer, evaluation_mode
from idsnn_cli.models import Model, per_step
from idsnn_cli.results import Result, plain
from idsnn_cli.spiking import seed_encoders
from idsnn_cli.spiking.precision import in_float64

TOP_K = 5


@dataclass(frozen=True, slots=True)
class Evaluation(Result):
    """Figures over one split. Accuracies are percent; ``loss`` is the mean cross-entropy in nats."""

    top1: Annotated[float, "percent, of the mean logits of all steps"]
    top5: Annotated[float | None, "percent; null of five classes or fewer, where it says nothing"]
    loss: Annotated[float, "mean cross-entropy, nats"]
    top1_by_step: Annotated[list[float], "percent, of the mean logits of the steps so far; the last is `top1`"]
    per_class: Annotated[list[float | None], "`top1` of each class; null for a class without images"]
    images: Annotated[int, "how many were measured on"]
    images_per_second: Annotated[float, "of the whole pass, with all that looked on"]


@dataclass(frozen=True, slots=True)
class MeasuredNetwork(Result):
    """One network's row. Its JSON is flat: the keys of ``figures``, and those of ``measures``, stand beside the others.

    What needs time steps is None in ``measures`` for an ANN.
    """

    name: Annotated[str, "`teacher`, `pretrain`, `student`, `baseline`, or the file's name"]
    file: Annotated[str, "where it was read from"]
    architecture: Annotated[str, "in one line of words"]
    kind: Annotated[Literal["ann", "spiking"], "what it computes with"]
    timesteps: Annotated[int, "T; 1 for an ANN"]
    parameters: Annotated[int, "trained values"]
    epochs: Annotated[int | None, "of its training; null for a file that does not say"]
    figures: Evaluation
    measures: Mapping[str, Any]
    normalisation: Annotated[Mapping[str, Any] | None, "which was found for a foreign file, and how clearly"] = None
    source: Annotated[Mapping[str, str] | None, "of a published network: its name, and the commit it stood for"] = None

    def to_dict(self) -> dict[str, Any]:
        """One flat dictionary; ``normalisation`` and ``source`` are keys only where there is one."""
        about = ("name", "file", "architecture", "kind", "timesteps", "parameters", "epochs")
        more = {"normalisation": self.normalisation, "source": self.source}
        found = {key: plain(each) for key, each in more.items() if each is not None}
        own = {key: getattr(self, key) for key in about}
        return own | self.figures.to_dict() | {key: plain(each) for key, each in self.measures.items()} | found


@torch.no_grad()
def evaluate(
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    seed: int = 0,
    first_image: int = 0,
    reduce: Callable[[Tensor], Tensor] = lambda values: values,
    observers: Sequence[Observer] = (),
) -> Evaluation:
    """Measure ``model`` in evaluation mode; its mode is as before when this returns.

    ``batches`` yields images (N, C, H, W) in 0 to 1 and labels (N,) on the model's device. ``seed`` fixes the spikes
    of Poisson coding, whatever the batches. ``reduce`` sums a float64 vector over processes that each hold a part of
    the images, this one beginning with the image of number ``first_image``. Each of ``observers`` sees every batch of
    this process. Raises :class:`DataError` where there is no image at all, and
    :class:`NonFiniteError` where logits are not finite.
    """
    num_classes = model.architecture.num_classes
    steps = torch.zeros(model.architecture.timesteps, dtype=torch.float64)
    sums = torch.zeros(3, dtype=torch.float64)
    hits, counts = (torch.zeros(num_classes, dtype=torch.float64) for _ in range(2))
    seed_encoders(model, seed, first_image)
    started = time.perf_counter()
    with evaluation_mode(model):
        for images, labels in batches:
            logits_TNK = in_float64(per_step(model(images)))
            labels = labels.to(logits_TNK.device)
            counted = torch.arange(1, len(logits_TNK) + 1, device=logits_TNK.device).view(-1, 1, 1)
            running = logits_TNK.cumsum(0) / counted
            for observer in observers:
                observer.see(running, labels)
            right_TN = running.argmax(-1) == labels
            top = running[-1].topk(min(TOP_K, running.shape[-1])).indices
            loss = F.cross_entropy(running[-1], labels, reduction="sum").cpu()
            if not torch.isfinite(loss):
                raise NonFiniteError(
                    f"logits of the {model.architecture.describe()} are NaN or infinite on images in 0 to 1, though "
                    "its weights are finite: it computes nothing",
                    "Look at its weights with `idsnn inspect FILE --html PAGE`: the largest values overflow.",
                )
            sums += torch.stack([loss, (top == labels[:, None]).any(1).sum().cpu(), torch.tensor(len(labels))])
            steps += right_TN.sum(1).cpu()
            cpu_labels = labels.cpu()
            hits.index_add_(0, cpu_labels, right_TN[-1].cpu().double())
            counts.index_add_(0, cpu_labels, torch.ones(len(labels), dtype=torch.float64))
    seconds = time.perf_counter() - started
    packed = reduce(torch.cat([sums, hits, counts, steps]))
    loss_sum, top5, images_seen = packed[:3].tolist()
    hits, counts, steps = packed[3 : 3 + num_classes], packed[3 + num_classes : -len(steps)], packed[-len(steps) :]
    if not images_seen:
        raise DataError("there are no images to measure on", "Choose a split or a subset that holds some.")
    return Evaluation(
        top1=100 * float(steps[-1]) / images_seen,
        top5=100 * top5 / images_seen if num_classes > TOP_K else None,
        loss=loss_sum / images_seen,
        top1_by_step=[100 * value / images_seen for value in steps.tolist()],
        per_class=[100 * h / c if c else None for h, c in zip(hits.tolist(), counts.tolist(), strict=True)],
        images=int(images_seen),
        images_per_second=images_seen / seconds if seconds > 0 else 0.0,
    )
