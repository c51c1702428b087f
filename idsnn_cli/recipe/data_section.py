"""The recipe's ``data`` section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from idsnn_cli.recipe.values import Fraction, Positive, Section, Seed


class MeanStd(Section):
    """Per-channel mean and standard deviation of images in 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


Normalisation = Literal["cifar10", "cifar100", "imagenet", "none", "half", "cifar10-std0.2"] | MeanStd


class Augment(Section):
    """What is drawn for each training image, in this order."""

    crop: Annotated[int, Field(ge=0, le=64)] = 4
    flip: bool = True
    autoaugment: Literal["none", "cifar10"] = "none"
    cutout: Annotated[int, Field(ge=0, le=256)] = 0


class Data(Section):
    """Which images, which part of them, and how they are shown.

    ``seed`` draws the images of ``subset``, ``test_subset`` and ``validation``; the recipe's where it is not given.
    """

    dataset: Literal["cifar10", "cifar100", "digits", "npz", "folder"]
    root: Path | None = None
    path: Path | None = None
    download: bool = False
    subset: Positive | None = None
    test_subset: Positive | None = None
    validation: Positive | Fraction | None = None
    select: Literal["validation", "test"] = "test"
    normalise: Literal["auto"] | Normalisation = "auto"
    image_size: Annotated[int, Field(ge=8, le=512)] | None = None
    augment: Augment = Augment()
    seed: Seed | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dataset in ("npz", "folder") and self.path is None:
            raise ValueError(f"dataset {self.dataset} needs data.path, the file or folder to read")
        if self.dataset not in ("npz", "folder") and self.path is not None:
            raise ValueError(f"data.path is for the npz and folder data sets; {self.dataset} is found in data.root")
        if self.dataset != "folder" and self.image_size is not None:
            raise ValueError("data.image_size is for the folder data set")
        return self
