"""The recipe's networks and how they are trained: ``teacher``, ``student``, and what ``distill`` shares with them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from idsnn_cli.architecture import (
    LEAST_LEARNT_DECAY,
    Activation,
    Architecture,
    BottleneckStride,
    Coding,
    Join,
    LearnDecay,
    LearnStart,
    Neuron,
    Reset,
    ResetGradient,
    Shortcut,
    SpikingBlock,
    Start,
    Stem,
    ann_names,
    build_description,
    spiking_names,
)
from idsnn_cli.recipe.data_section import Normalisation
from idsnn_cli.recipe.values import NetworkSource, Positive, Rate, Section, Seed, one_of
from idsnn_cli.registry import names
from idsnn_cli.spiking.surrogates import surrogate
from idsnn_cli.training import losses

# The files of the folder, which a type checker cannot know.
if TYPE_CHECKING:
    SurrogateName = str
else:
    SurrogateName = Literal[names("idsnn_cli.spiking.surrogates")]

# What the authors of QCFS use for CIFAR-100.
QCFS_LEVELS = 8
# What spikes count once each channel, or each layer, has learnt a threshold.
_WITH_THRESHOLDS: dict[str, Literal["folded", "folded-layer"]] = {"channel": "folded", "layer": "folded-layer"}


class Network(Section, ABC):
    """What the teacher and the student share."""

    arch: str
    width: Positive | None = None
    stem: Stem = "3x3"
    shortcut: Shortcut = "projection"

    def architecture(self, num_classes: int, in_channels: int = 3) -> Architecture:
        """The network for images of so many classes and channels."""
        return self.build(self.arch, num_classes, in_channels, **self.traits())

    def build(self, arch: str, num_classes: int, in_channels: int, **traits: Any) -> Architecture:
        """``arch`` with what both share."""
        traits |= {"width": self.width, "stem": self.stem, "shortcut": self.shortcut}
        return build_description(arch, num_classes, **traits).changed(in_channels=in_channels)

    @abstractmethod
    def traits(self) -> dict[str, Any]:
        """What :func:`build_description` is told beside what both share."""


class Training(Section):
    """How a network is fitted. ``batch_size`` is the global one; ``step`` schedules count epochs.

    ``momentum`` is AdamW's first beta, too; ``gamma`` is for schedule ``step``, whose ``step_every`` may be a part of
    an epoch. What the loss is made of, and its keys, are in :mod:`idsnn_cli.training.losses`.
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
    step_every: Positive | Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_epochs: Rate = 0.0
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
        if self.warmup_epochs >= self.epochs > 0:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves nothing of {self.epochs} epochs")
        if self.optimizer == "adamw" and self.nesterov:
            raise ValueError("nesterov is for sgd")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @model_validator(mode="after")
    def _losses(self) -> Self:
        losses.check(dict(self))
        return self

    @property
    def teaching(self) -> tuple[losses.Loss, ...]:
        """The terms of its loss that read a teacher."""
        return losses.teaching_terms(dict(self))

    @property
    def taught(self) -> bool:
        """Whether the loss reads a teacher; without epochs there is no loss."""
        return self.epochs > 0 and bool(self.teaching)


@losses.with_keys("pretrain")
class Pretrain(Training):
    """The student's training as an ANN of its own shape, from the source's mapped weights, before it is made spiking.

    L = CE + alpha * temperature^2 * KL(teacher || student). With 0 ``epochs``, the default, there is none, and the
    other keys mean nothing. With ``activation`` qcfs its activations have ``levels`` values above 0 (the student's T
    where it is not given), as a spiking neuron of so many steps has; each lambda starts at the ``percentile`` (99) of
    what the mapped network's ReLU gives on training images, or at that of a quantised source, and is learnt.
    """

    epochs: Annotated[int, Field(ge=0)] = 0
    activation: Activation = "relu"
    levels: Positive | None = None
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _quantised(self) -> Self:
        if self.activation == "relu" and (self.levels is not None or self.percentile is not None):
            raise ValueError("levels and percentile are for activation qcfs")
        return self


@losses.with_keys("teacher")
class Teacher(Training, Network):
    """The larger ANN, trained here or read from ``checkpoint``.

    ``seed`` draws its weights, batches and augmentation; the recipe's where it is not given. With it students of
    several seeds can have one teacher. ``activation`` qcfs makes it an ANN whose activations a spiking neuron can copy,
    with ``levels`` values above 0 (8 where it is not given). The other keys here are for a foreign checkpoint:
    ``normalise`` is its input normalisation, which it does not carry (auto: found from training images);
    ``bottleneck_stride`` the convolution in which its bottlenecks stride, which its names cannot tell (3x3 where
    nothing is said); ``weights`` says which copy is taken where it holds raw and averaged ones (auto: the averaged);
    ``allow_unused`` drops tensors of it that are not explained, if they change nothing of what it gives; ``kind`` ann
    says that it is no spiking network where that is not told; ``scheme`` is a YAML file with a table of its tensors'
    names; ``root`` is what the names of the network that is meant begin with, where it holds several; and ``levels``
    those of its QCFS activations, which only have thresholds in it; ``option_a`` says where its shortcuts without
    weights put their zeros (found from training images where nothing is said).
    """

    arch: str = "resnet34"
    activation: Activation = "relu"
    levels: Positive | None = None
    checkpoint: NetworkSource | None = None
    normalise: Literal["auto"] | Normalisation | None = None
    bottleneck_stride: BottleneckStride | None = None
    weights: Literal["auto", "ema", "raw"] = "auto"
    allow_unused: bool = False
    kind: Literal["auto", "ann"] = "auto"
    scheme: Path | None = None
    root: str | None = None
    option_a: Literal["pad", "pad-end"] | None = None
    seed: Seed | None = None

    @field_validator("arch")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, ann_names())

    def traits(self) -> dict[str, Any]:
        levels = (self.levels or QCFS_LEVELS) if self.activation == "qcfs" else 0
        return {"activation": self.activation, "levels": levels}


class Student(Network):
    """The spiking network. Give the leak as ``decay`` or as ``tau`` (decay = exp(-1/tau)), not both.

    ``reset``: a spike sets the membrane to 0 (hard) or lowers it by the threshold (soft). ``start``: the membrane
    before the first step is 0 or half the threshold; ``reset_gradient``: whether the gradient passes through what a
    spike takes from it; :class:`~idsnn_cli.architecture.Neuron` has the equations.
    ``learn_decay`` layer lets each layer of neurons learn its decay, from that one on (PLIF), and ``learn_start``
    channel each channel what its membranes start with, from ``start`` on.
    ``amplitude`` channel lets each channel learn what its spikes count (Real Spike); ``idsnn export`` folds it.
    ``threshold`` channel lets each channel learn its threshold: it is learnt in gamma and beta of the BatchNorm before
    the neuron, and shortcuts without weights learn by what they multiply the spikes that they pass on, each channel's
    (in blocks ``ms`` neurons before which there is a sum learn by what they multiply that); with ``layer`` such a
    factor is one for all channels.
    """

    arch: str = "spiking-resnet18"
    stem_padding: Literal[1, 3] | None = None
    timesteps: Annotated[int, Field(ge=1, le=1024)] = 4
    block: SpikingBlock = "spiking"
    join: Join = "add"
    v_threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    decay: Annotated[float, Field(ge=0, le=1)] | None = None
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    learn_decay: LearnDecay = "none"
    learn_start: LearnStart = "none"
    reset: Reset = "hard"
    start: Start = "zero"
    reset_gradient: ResetGradient = "detached"
    surrogate: SurrogateName = "rectangle"
    surrogate_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    coding: Coding = "direct"
    amplitude: Literal["one", "channel"] = "one"
    threshold: Literal["fixed", "layer", "channel"] = "fixed"

    @field_validator("arch")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, spiking_names())

    @model_validator(mode="after")
    def _leak(self) -> Self:
        if self.decay is not None and self.tau is not None:
            raise ValueError("decay and tau say the same thing (decay = exp(-1/tau)); give one of them")
        start = self.leak()
        if self.learn_decay == "layer" and not LEAST_LEARNT_DECAY <= start <= 1 - LEAST_LEARNT_DECAY:
            raise ValueError(
                f"learn_decay layer cannot start from a decay of {start:g}, where a sigmoid has no slope to learn by; "
                f"start from {LEAST_LEARNT_DECAY:.6f} to {1 - LEAST_LEARNT_DECAY:.6f}"
            )
        if self.block != "sew" and self.join != "add":
            raise ValueError(f"join {self.join} is for block sew")
        if self.threshold != "fixed" and (self.amplitude != "one" or self.block == "sew"):
            raise ValueError(f"threshold {self.threshold} is for blocks spiking and ms, and amplitude one")
        if self.block == "sew" and self.amplitude == "channel":
            raise ValueError("amplitude channel is for block spiking: the sums of sew cannot be folded")
        if self.block == "ms" and self.amplitude == "channel":
            raise ValueError("amplitude channel is for block spiking: the shortcuts of ms add membranes, not spikes")
        if self.stem == "7x7" and self.stem_padding == 1:
            raise ValueError("a 7x7 stem pads by 3")
        return self

    def ann(self, num_classes: int, in_channels: int = 3, **traits: Any) -> Architecture:
        """The ANN of the student's shape, whose weights are the student's by name and shape; its blocks add what no
        activation has seen where the student's do.
        """
        if self.block == "ms":
            # Networks that cannot have such blocks say so of the student.
            self.architecture(num_classes, in_channels)
        name = self.arch.removeprefix("spiking-")
        found = self.build(name, num_classes, in_channels, stem_padding=self.stem_padding, **traits)
        return found.changed(membranes=True) if self.block == "ms" else found

    def leak(self) -> float:
        """The decay: 0.25 where neither ``decay`` nor ``tau`` is given."""
        if self.decay is not None:
            return self.decay
        return 0.25 if self.tau is None else math.exp(-1 / self.tau)

    def neuron(self) -> Neuron:
        """The neuron's constants; its decay is :meth:`leak`."""
        scale = surrogate(self.surrogate).default if self.surrogate_scale is None else self.surrogate_scale
        return Neuron(self.v_threshold, self.leak(), self.surrogate, scale, self.reset, self.start, self.reset_gradient)

    def traits(self) -> dict[str, Any]:
        return {
            "stem_padding": self.stem_padding,
            "timesteps": self.timesteps,
            "neuron": self.neuron(),
            "spiking_block": self.block,
            "join": self.join,
            "coding": self.coding,
            "amplitude": _WITH_THRESHOLDS.get(self.threshold, self.amplitude),
            # Said where it is something, for a family need not know it.
            **({} if self.learn_decay == "none" else {"learn_decay": self.learn_decay}),
            **({} if self.learn_start == "none" else {"learn_start": self.learn_start}),
        }
