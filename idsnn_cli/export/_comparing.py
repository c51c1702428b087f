"""A student run as what a written file is compared with: its logits, and the spikes of every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.export.base import Compared, Images, Student
from idsnn_cli.models import Model, per_step
from idsnn_cli.models.channels import IMAGE, shown
from idsnn_cli.spiking import seed_encoders

# Images at once: maps of all steps and layers are held.
CHUNK = 8
Spikes = dict[str, Tensor]
# Of some images: logits (T, N, K), and the spikes (T, N, ...) of layers by name.
Run = Callable[[Tensor], tuple[Tensor, Spikes]]


class Tally:
    """Counts what differs between the student and one reader."""

    def __init__(self, reader: str, dtype: torch.dtype) -> None:
        self.reader, self.dtype = reader, str(dtype).removeprefix("torch.")
        self.images = self.equal = self.spikes = 0
        self.largest = 0.0
        self.layers: dict[str, int] = {}

    def add(self, ours: tuple[Tensor, Spikes], theirs: tuple[Tensor, Spikes]) -> None:
        """Both runs of the same images."""
        first, second = (per_step(logits).double() for logits in (ours[0], theirs[0]))
        if first.shape != second.shape:
            raise ValueError(f"it gives {list(second.shape)} logits instead of {list(first.shape)}")
        self.images += first.shape[1]
        difference = (first - second).abs()
        # A NaN is a difference, and the largest that there is.
        self.largest = max(self.largest, float(difference.nan_to_num(nan=float("inf")).max()))
        self.equal += int((first.mean(0).argmax(-1) == second.mean(0).argmax(-1)).sum())
        for name, spikes in theirs[1].items():
            mine = ours[1][name]
            self.spikes += mine.numel()
            self.layers[name] = self.layers.get(name, 0) + int((mine != spikes.to(mine.dtype)).sum())

    def result(self) -> Compared:
        return Compared(
            self.reader,
            self.images,
            self.dtype,
            largest=self.largest,
            top1_equal=self.equal,
            spikes=self.spikes if self.layers else None,
            differing=sum(self.layers.values()) if self.layers else None,
            layers=self.layers or None,
        )


def chunks(seen: Images) -> Iterator[Tensor]:
    """The images, a few at a time."""
    for start in range(0, len(seen.images), CHUNK):
        yield seen.images[start : start + CHUNK]


def reference(student: Student, dtype: torch.dtype) -> Model:
    """The student's own network in ``dtype``; the one that is exported stays as it is."""
    return deepcopy(student.model).to(dtype).eval()


def inputs(model: Model, images: Tensor) -> Tensor:
    """What the first layer reads at each step, (T, N, C, H, W), of images, or of recordings a frame after the other."""
    if model.encoder is not None:
        spikes: Tensor = model.encoder(images)
        return spikes
    architecture = model.architecture
    frames = architecture.timesteps if architecture.coding == "frames" else IMAGE
    normal: Tensor = model.input(shown(images, architecture.in_channels, frames))
    if frames == IMAGE:
        return normal.expand(model.timesteps, *normal.shape)
    return normal.view(model.timesteps, -1, *normal.shape[1:])


@torch.no_grad()
def run_with_spikes(model: Model, images: Tensor, layers: dict[str, str]) -> tuple[Tensor, Spikes]:
    """Logits, and what the modules that ``layers`` names gave, (T, N, ...) by their keys there."""
    found: Spikes = {}
    handles = []
    for name, module in layers.items():

        def keep(_: Any, __: Any, output: Tensor, name: str = name) -> None:
            found[name] = output.detach().clone().view(model.timesteps, len(images), *output.shape[1:])

        handles.append(model.get_submodule(module).register_forward_hook(keep))
    try:
        return model(images), found
    finally:
        for handle in handles:
            handle.remove()


def compare(reader: str, ours: Run, theirs: Run, seen: Images, dtype: torch.dtype, *models: Model) -> Compared:
    """Both on all images, in ``dtype``; a Poisson encoder in one of ``models`` draws the same for both. A reader that
    raises is left out, with its words.
    """
    tally = Tally(reader, dtype)
    try:
        for images in chunks(seen):
            for model in models:
                seed_encoders(model, 0)
            first = ours(images.to(dtype))
            for model in models:
                seed_encoders(model, 0)
            tally.add(first, theirs(images.to(dtype)))
    except Exception as error:  # a reader of others raises what it likes, and the file is written already
        return left_out(reader, seen, dtype, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return tally.result()


def left_out(reader: str, seen: Images, dtype: torch.dtype, why: str) -> Compared:
    """A reader that did not run."""
    return Compared(reader, len(seen.images), str(dtype).removeprefix("torch."), left_out=why)
