"""A training of a few steps on random images, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.data import Split, TrainBatches, eval_batches
from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.models import Model, build
from idsnn_cli.recipe.schema import Augment, Training
from idsnn_cli.training import Events, Fit, Objective

IMAGES, BATCH = 22, 8
CONFIG = Training(epochs=3, batch_size=BATCH, lr=0.05, schedule="step", step_every=2)


def images(count: int = IMAGES, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.arange(count) % 4)


def student(coding: str = "direct") -> Model:
    description = build_description(
        "spiking-resnet8", 4, width=4, stem="7x7", timesteps=3, neuron=Neuron(), coding=coding
    )
    return build(description, seed=1)


def small_fit(folder: Path, model: Model | None = None, config: Training = CONFIG, **changes: Any) -> Fit:
    """Three epochs of three steps; ``changes`` replace fields of the :class:`Fit`."""
    split = images()
    device = torch.device("cpu")

    def measure(network: Model) -> Evaluation:
        return evaluate(network, eval_batches(split, 16, device))

    work = Fit(
        name="distill",
        draws="distill",
        model=model or student(),
        config=config,
        objective=Objective(),
        batches=TrainBatches(split, batch_size=BATCH, augment=Augment(), seed=5, device=device, fill=(0.5, 0.5, 0.5)),
        measure=measure,
        split="test",
        seed=5,
        precision="fp32",
        device=device,
        state_path=folder / "state.pt",
        save_every_minutes=10,
        on_best=lambda record: None,
        on_epoch=lambda history: None,
        events=Events(),
    )
    return replace(work, **changes)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Equal in every bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StopAt(Events):
    """Calls ``act`` when the batch ``number`` (counted over all epochs, from 1) is done."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self.left = number
        self.act = act

    def batch_done(self, event: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()
