"""The recipe as pydantic models: every key, its type, its range and its default.

A recipe is data only: nothing here imports torch, reads files or knows where a recipe came from.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, field_validator, model_validator

from idsnn_cli.architecture import (
    ANN_NAMES,
    SPIKING_NAMES,
    SURROGATE_SCALES,
    Architecture,
    BottleneckStride,
    Coding,
    Join,
    Neuron,
    Shortcut,
    SpikingBlock,
    Stem,
    Surrogate,
    build_description,
)
from idsnn_cli.errors import UsageError, did_you_mean
from idsnn_cli.published import SCHEME, Published, Source, parse_source
from idsnn_cli.rules import (
    BEST,
    BEST_REESTIMATE,
    BareShortcutRule,
    BlockRule,
    BottleneckRule,
    ChannelRule,
    HeadRule,
    KernelRule,
    Multiplicity,
    Rescale,
    Rules,
    ShortcutRule,
)

Measure = Literal["activity", "energy", "calibration", "early-exit", "confusion", "latency", "robustness", "beyond"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _one_of(value: str, names: tuple[str, ...]) -> str:
    lowered = value.lower()
    if lowered not in names:
        raise ValueError(f"give one of {', '.join(names)}.{did_you_mean(lowered, names)}")
    return lowered


def _source(value: object) -> Source:
    if isinstance(value, Path | Published):
        return value
    if not isinstance(value, str):
        raise ValueError(f"give a path, or {SCHEME}NAME")
    try:
        return parse_source(value)
    except UsageError as error:
        raise ValueError(error.message) from None


# A file, or weights that torchvision publishes; text in a recipe.
NetworkSource = Annotated[Path | Published, PlainValidator(_source), PlainSerializer(str, return_type=str)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, and numbers are finite.

    Recipes are validated in pydantic's strict JSON mode, where a number is never made from a string or a boolean.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


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


class Network(Section):
    """What the teacher and the student share."""

    arch: str
    width: Positive | None = None
    stem: Stem = "3x3"
    shortcut: Shortcut = "projection"


class Training(Section):
    """How a network is fitted. ``batch_size`` is the global one; ``step`` schedules count epochs.

    ``momentum`` is AdamW's first beta, too; ``gamma`` is for schedule ``step``.
    """

    epochs: Positive = 200
    batch_size: Positive = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Rate = 1e-4
    decay_norm_and_bias: bool = True
    schedule: Literal["constant", "step", "cosine", "onecycle"] = "cosine"
    milestones: tuple[Positive, ...] | None = None
    step_every: Positive | None = None
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_epochs: Rate = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    keep: Literal["last", "best"] = "last"
    evaluate_every: Positive = 1

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        if self.schedule == "step" and (self.milestones is None) == (self.step_every is None):
            raise ValueError("schedule step needs either milestones or step_every, and only one of them")
        if self.schedule != "step" and (self.milestones is not None or self.step_every is not None):
            raise ValueError(f"milestones and step_every are for schedule step, not {self.schedule}")
        if self.schedule != "step" and self.gamma != Training.model_fields["gamma"].default:
            raise ValueError(f"gamma is for schedule step, not {self.schedule}")
        if self.milestones is not None and sorted(set(self.milestones)) != list(self.milestones):
            raise ValueError("milestones must rise")
        if self.schedule == "onecycle" and self.warmup_epochs:
            raise ValueError("schedule onecycle has its own warm-up; leave warmup_epochs at 0")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves nothing of {self.epochs} epochs")
        if self.optimizer == "adamw" and self.nesterov:
            raise ValueError("nesterov is for sgd")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Teacher(Training, Network):
    """The larger ANN, trained here or read from ``checkpoint``.

    ``seed`` draws its weights, batches and augmentation; the recipe's where it is not given. With it students of
    several seeds can have one teacher. The other keys here are for a foreign checkpoint: ``normalise`` is its input
    normalisation, which it does not carry (auto: found from training images); ``bottleneck_stride`` the convolution in
    which its bottlenecks stride, which its names cannot tell (3x3 where nothing is said); ``weights`` says which copy
    is taken where it holds raw and averaged ones (auto: the averaged); ``allow_unused`` drops tensors of it that are
    not explained; ``scheme`` is a YAML file with a table of its tensors' names.
    """

    arch: str = "resnet34"
    checkpoint: NetworkSource | None = None
    normalise: Literal["auto"] | Normalisation | None = None
    bottleneck_stride: BottleneckStride | None = None
    weights: Literal["auto", "ema", "raw"] = "auto"
    allow_unused: bool = False
    scheme: Path | None = None
    seed: Seed | None = None

    @field_validator("arch")
    @classmethod
    def _known(cls, value: str) -> str:
        return _one_of(value, ANN_NAMES)

    def architecture(self, num_classes: int) -> Architecture:
        return build_description(self.arch, num_classes, width=self.width, stem=self.stem, shortcut=self.shortcut)


class Student(Network):
    """The spiking network. Give the leak as ``decay`` or as ``tau`` (decay = exp(-1/tau)), not both."""

    arch: str = "spiking-resnet18"
    stem_padding: Literal[1, 3] | None = None
    timesteps: Annotated[int, Field(ge=1, le=1024)] = 4
    block: SpikingBlock = "spiking"
    join: Join = "add"
    v_threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    decay: Annotated[float, Field(ge=0, le=1)] | None = None
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    surrogate: Surrogate = "rectangle"
    surrogate_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    coding: Coding = "direct"

    @field_validator("arch")
    @classmethod
    def _known(cls, value: str) -> str:
        return _one_of(value, SPIKING_NAMES)

    @model_validator(mode="after")
    def _leak(self) -> Self:
        if self.decay is not None and self.tau is not None:
            raise ValueError("decay and tau say the same thing (decay = exp(-1/tau)); give one of them")
        if self.block == "spiking" and self.join != "add":
            raise ValueError(f"join {self.join} is for block sew")
        if self.stem == "7x7" and self.stem_padding == 1:
            raise ValueError("a 7x7 stem pads by 3")
        return self

    def neuron(self) -> Neuron:
        """The neuron's constants; the leak is 0.25 where neither ``decay`` nor ``tau`` is given."""
        decay = self.decay
        if decay is None:
            decay = 0.25 if self.tau is None else math.exp(-1 / self.tau)
        scale = SURROGATE_SCALES[self.surrogate] if self.surrogate_scale is None else self.surrogate_scale
        return Neuron(self.v_threshold, decay, self.surrogate, scale)

    def architecture(self, num_classes: int) -> Architecture:
        return build_description(
            self.arch,
            num_classes,
            width=self.width,
            stem=self.stem,
            stem_padding=self.stem_padding,
            shortcut=self.shortcut,
            timesteps=self.timesteps,
            neuron=self.neuron(),
            spiking_block=self.block,
            join=self.join,
            coding=self.coding,
        )


class Init(Section):
    """How the student's first weights come from ``source`` (by default the teacher).

    ``rule`` stands for a whole set of the other keys: ``loop`` is the paper's, ``best`` the one that started best in
    the benchmark, ``none`` takes nothing; what is given beside it replaces its own. ``reestimate`` counts batches,
    ``images`` the training images that are shown to the source where a rule looks at it running.
    """

    rule: Literal["loop", "best", "none"] = "loop"
    blocks: BlockRule | tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] = "proportional"
    channels: ChannelRule = "loop"
    multiplicity: Multiplicity = "ignore"
    noise: Rate = 0.0
    kernels: KernelRule = "centre"
    bottleneck: BottleneckRule = "fold"
    shortcut: ShortcutRule = "copy"
    bare_shortcut: BareShortcutRule = "random"
    head: HeadRule = "random"
    class_map: tuple[Annotated[int, Field(ge=0)] | None, ...] = ()
    rescale: Rescale = "none"
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.9
    reestimate: Annotated[int, Field(ge=0)] = 0
    images: Positive = 512
    source: NetworkSource | None = None

    @model_validator(mode="after")
    def _whole_rule(self) -> Self:
        defaults = {field.name: getattr(BEST, field.name) for field in fields(BEST)} | {"reestimate": BEST_REESTIMATE}
        for key, value in defaults.items():
            if self.rule == "best" and key not in self.model_fields_set:
                object.__setattr__(self, key, value)  # frozen once it is made
        if self.rule == "none":
            for key in (*defaults, "source"):
                if key != "reestimate" and getattr(self, key) != Init.model_fields[key].default:
                    raise ValueError(f"{key} is for a start from a source; rule none takes nothing")
        if self.percentile != 99.9 and self.rescale != "threshold":
            raise ValueError(f"percentile is for rescale threshold, not {self.rescale}")
        if (self.head == "map") is not bool(self.class_map):
            raise ValueError("head map and class_map go together: one source class, or null, for each class")
        return self

    def rules(self) -> Rules:
        return Rules(**{field.name: getattr(self, field.name) for field in fields(Rules)})


class Distill(Training):
    """The student's training and its loss: CE + alpha * temperature^2 * KL(teacher || student)."""

    alpha: Rate = 0.3
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 4.0
    loss_on: Literal["mean", "steps"] = "mean"
    baseline: Literal["none", "plain", "distilled"] = "none"


class Eval(Section):
    """What is measured, and on which images.

    ``measure`` names what is measured besides accuracy and loss. ``timesteps`` is how far ``beyond`` goes, which it
    stands for; otherwise that is twice the network's own time steps.
    """

    split: Literal["test", "validation"] = "test"
    batch_size: Positive = 256
    measure: tuple[Measure, ...] = ()
    timesteps: Annotated[int, Field(ge=2, le=2048)] | None = None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is asked for, each once, in the order of their list."""
        asked = {*self.measure} | ({"beyond"} if self.timesteps is not None else set())
        return tuple(name for name in MEASURES if name in asked)


class Runtime(Section):
    """Where and how the work runs; nothing here changes what is computed but ``precision``.

    ``cuda_graph`` captures the training step on a GPU once and replays it (one process, not in fp16, direct coding).
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    threads: Positive | None = None
    save_every_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    max_memory_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8.0
    cuda_graph: bool = True

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        kind, _, index = value.partition(":")
        if value in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit()):
            return value
        raise ValueError("give auto, cpu, cuda or cuda:N")


class Claims(Section):
    """The row of the paper's tables that the recipe reruns; nothing that is computed depends on it.

    ``dataset`` and ``timesteps`` are the row's, the recipe's own where they are not given; ``step`` is that of table 4,
    ``distill.step_every`` where it is not given.
    """

    table: Literal[1, 2, 3, 4] | None = None
    row: Literal["baseline", "init", "kd", "both"] | None = None
    dataset: Literal["cifar10", "cifar100"] | None = None
    timesteps: Positive | None = None
    step: Positive | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.table is None) is not (self.row is None):
            raise ValueError("table and row go together")
        return self


class Recipe(Section):
    """A whole recipe. ``seed`` is the one number that every draw comes from, but for sections with one of their own."""

    data: Data
    teacher: Teacher = Teacher()
    student: Student = Student()
    init: Init = Init()
    distill: Distill = Distill()
    eval: Eval = Eval()
    runtime: Runtime = Runtime()
    claims: Claims = Claims()
    seed: Seed = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        held_out = self.data.validation is not None or self.data.dataset in ("npz", "folder")
        for key, split in (("data.select", self.data.select), ("eval.split", self.eval.split)):
            if split == "validation" and not held_out:
                raise ValueError(f"{key} is validation, but data.validation keeps no images for it")
        return self

    @property
    def data_seed(self) -> int:
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def teacher_seed(self) -> int:
        return self.seed if self.teacher.seed is None else self.teacher.seed

    @property
    def needs_teacher(self) -> bool:
        """False where neither the start nor the loss reads a teacher."""
        from_teacher = self.init.rule != "none" and self.init.source is None
        return from_teacher or self.distill.alpha > 0

    def portable(self) -> dict[str, Any]:
        """The resolved recipe as JSON-ready data without paths or machine settings, for a checkpoint."""
        plain = self.model_dump(mode="json", exclude={"runtime", "claims"})
        plain["runtime"] = {"precision": self.runtime.precision}
        for section, key in (
            ("data", "root"),
            ("data", "path"),
            ("teacher", "checkpoint"),
            ("teacher", "scheme"),
            ("init", "source"),
        ):
            plain[section].pop(key)
        return plain
