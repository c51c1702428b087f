"""The recipe's ``data`` section."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from idsnn_cli.recipe.values import Fraction, Positive, Section, Seed
from idsnn_cli.registry import entries, find, names

# The package whose files are the data sets. What reads them stands above the recipe, which looks at no more than this.
DATA_SETS = "idsnn_cli.data.sets"
# The files of the folder, which a type checker cannot know.
if TYPE_CHECKING:
    DataSetName = str
else:
    DataSetName = Literal[names(DATA_SETS)]


class DataNeeds:
    """What a data set needs of the ``data`` section: the part of it that a recipe looks at.

    ``path``: it is read from ``data.path``, otherwise found below ``data.root`` or in the package. ``image_size``: its
    images are decoded to a size that one may choose. ``files``: each image is a file, and may be decoded each time that
    it is used; ``shards``: in tar files that ``data.shards`` names. ``download``: there is something to download where
    it is missing. ``own_validation``: it may ship validation images of its own. ``frames``: it holds recordings of
    events, which are binned to frames of two polarities; ``sensor``: of a sensor whose size has to be said. ``hub``:
    its name among the hub's data sets, which cards of networks link; None where it is not there.
    """

    path: ClassVar[bool] = False
    image_size: ClassVar[bool] = False
    files: ClassVar[bool] = False
    shards: ClassVar[bool] = False
    download: ClassVar[bool] = False
    own_validation: ClassVar[bool] = False
    frames: ClassVar[bool] = False
    sensor: ClassVar[bool] = False
    hub: ClassVar[str | None] = None


def data_needs(name: str) -> DataNeeds:
    """What the data set of that name needs."""
    return find(DATA_SETS, name, DataNeeds)


def _those_with(key: str) -> str:
    found = [name for name, needs in entries(DATA_SETS, DataNeeds).items() if getattr(needs, key)]
    listed = ", ".join(found[:-1]) + (" and " if found[1:] else "") + found[-1]
    return f"the {listed} data set{'' if len(found) == 1 else 's'}"


Side = Annotated[int, Field(ge=1, le=8192)]
Share = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MeanStd(Section):
    """Per-channel mean and standard deviation of images in 0 to 1."""

    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _of_one_image(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each a channel")
        return self


Normalisation = Literal["cifar10", "cifar100", "imagenet", "none", "half", "cifar10-std0.2"] | MeanStd


class Augment(Section):
    """What is drawn for each training image, in this order; of frames the same for all of a recording.

    ``scale`` turns on torchvision's RandomResizedCrop of the image file (Szegedy et al. 2015): a part of its area
    between these shares, whose width is to its height as one of ``ratio``. ``crop`` is then 0.
    ``eventdrop`` lets each recording lose nothing, some time, some area or some events (Gu et al., IJCAI 2021).
    """

    scale: tuple[Share, Share] | None = None
    ratio: tuple[Aspect, Aspect] = (0.75, 1.3333)
    crop: Annotated[int, Field(ge=0, le=64)] = 4
    flip: bool = True
    autoaugment: Literal["none", "cifar10"] = "none"
    cutout: Annotated[int, Field(ge=0, le=256)] = 0
    eventdrop: bool = False

    @model_validator(mode="after")
    def _of_files(self) -> Self:
        for key, pair in (("scale", self.scale), ("ratio", self.ratio)):
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{key} is from {pair[0]:g} to {pair[1]:g}; give the smaller one first")
        if self.scale is None:
            if "ratio" in self.model_fields_set and self.ratio != Augment.model_fields["ratio"].default:
                raise ValueError("ratio is that of the crop that scale turns on, and scale is not given")
            return self
        if self.crop and "crop" in self.model_fields_set:
            raise ValueError("scale draws a crop of the whole file, and crop one of the padded image; use crop 0")
        object.__setattr__(self, "crop", 0)
        return self


class Shards(Section):
    """The tar files of a ``webdataset``: names in which ``{000..146}`` stands for a range, several set apart by ``::``.

    ``classes`` is a text file with the name of each class on a line of its own.
    """

    train: str | None = None
    test: str | None = None
    validation: str | None = None
    classes: Path | None = None


class Data(Section):
    """Which images, which part of them, and how they are shown.

    ``channels`` brings grey images to three channels, each the same, or coloured ones to one, the mean of the three;
    without it they are as the data set has them. ``seed`` draws the images of ``subset``, ``test_subset`` and
    ``validation``; the recipe's where it is not given.

    Where each image is a file (``folder``, ``webdataset``), ``decode`` says when it becomes pixels: ``once``, before
    anything else, or ``always``, each time that it is used; ``auto`` is ``once`` unless ``augment.scale`` draws from
    whole files. ``image_size`` is cut from the middle of an image whose short side is ``resize``, or that size itself.
    ``workers`` processes decode (null: one a core, up to 16), whose number changes no image; ``nvjpeg``, by which an
    NVIDIA GPU decodes, does. An epoch mixes the images of ``window`` tar files at a time.

    Of event data ``frames`` is how many frames a recording is binned to, the student's T where it is not given;
    ``slicing`` gives each as many events (``count``) or as much time (``time``), and ``sensor`` is its (height, width).
    """

    dataset: DataSetName
    root: Path | None = None
    path: Path | None = None
    download: bool = False
    subset: Positive | None = None
    test_subset: Positive | None = None
    validation: Positive | Fraction | None = None
    select: Literal["validation", "test"] = "test"
    normalise: Literal["auto"] | Normalisation = "auto"
    image_size: Annotated[int, Field(ge=8, le=512)] | None = None
    resize: Annotated[int, Field(ge=8, le=1024)] | None = None
    decode: Literal["auto", "once", "always"] = "auto"
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    nvjpeg: bool = False
    shards: Shards = Shards()
    window: Positive = 16
    channels: Literal[1, 3] | None = None
    frames: Annotated[int, Field(ge=1, le=1024)] | None = None
    slicing: Literal["count", "time"] = "count"
    sensor: tuple[Side, Side] | None = None
    augment: Augment = Augment()
    seed: Seed | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needs = data_needs(self.dataset)
        if needs.path and self.path is None:
            raise ValueError(f"dataset {self.dataset} needs data.path, the file or folder to read")
        if not needs.path and self.path is not None:
            raise ValueError(f"data.path is for {_those_with('path')}; {self.dataset} is found in data.root")
        if not needs.image_size and self.image_size is not None:
            raise ValueError(f"data.image_size is for {_those_with('image_size')}")
        return self

    @model_validator(mode="after")
    def _of_files(self) -> Self:
        needs = data_needs(self.dataset)
        given = {
            "resize": self.resize is not None,
            "decode": self.decode != "auto",
            "workers": self.workers is not None,
            "nvjpeg": self.nvjpeg,
            "augment.scale": self.augment.scale is not None,
        }
        for key, is_given in given.items():
            if is_given and not needs.files:
                raise ValueError(f"data.{key} is for {_those_with('files')}, whose images are files")
        if not needs.shards and (self.shards != Shards() or self.window != Data.model_fields["window"].default):
            key = "shards" if self.shards != Shards() else "window"
            raise ValueError(f"data.{key} is for {_those_with('shards')}")
        if needs.shards and (self.shards.train is None or self.shards.test is None):
            raise ValueError(
                f"dataset {self.dataset} needs data.shards.train and data.shards.test, the tar files to read"
            )
        if self.resize is not None and (self.image_size is None or self.resize < self.image_size):
            raise ValueError(
                "data.resize is the short side from which data.image_size is cut: give both, it the larger"
            )
        if self.decode == "once" and (self.decodes_always or self.nvjpeg):
            raise ValueError("data.decode is once, but shards, augment.scale and nvjpeg decode each time; use auto")
        if self.nvjpeg and not self.decodes_always:
            raise ValueError("data.nvjpeg decodes images each time: set data.decode=always, or data.augment.scale")
        return self

    @property
    def decodes_always(self) -> bool:
        """Whether images become pixels each time that they are used, and not once before."""
        return self.decode == "always" or self.augment.scale is not None or data_needs(self.dataset).shards

    @model_validator(mode="after")
    def _of_events(self) -> Self:
        needs = data_needs(self.dataset)
        if not needs.frames:
            given = {
                "frames": self.frames is not None,
                "slicing": self.slicing != "count",
                "sensor": self.sensor is not None,
                "augment.eventdrop": self.augment.eventdrop,
            }
            for key, is_given in given.items():
                if is_given:
                    raise ValueError(f"data.{key} is for {_those_with('frames')}, which hold events")
            return self
        if self.channels is not None:
            raise ValueError("data.channels is for images; events have two polarities, which are two channels")
        if self.augment.autoaugment != "none":
            raise ValueError("data.augment.autoaugment is for images; events have data.augment.eventdrop")
        if self.download:
            raise ValueError(f"data.download cannot fetch {self.dataset}; tonic.datasets does, in Python")
        if needs.sensor and self.sensor is None:
            raise ValueError("dataset events needs data.sensor, the height and width of what recorded them")
        if not needs.sensor and self.sensor is not None:
            raise ValueError(f"data.sensor is for {_those_with('sensor')}; that of {self.dataset} is known")
        return self
