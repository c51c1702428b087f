"""The recipe as pydantic models: every key, its type, its range and its default.

A recipe is data only: nothing here imports torch, reads files or knows where a recipe came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from idsnn_cli.recipe.data_section import Augment, Data, MeanStd, data_needs
from idsnn_cli.recipe.init_section import Init
from idsnn_cli.recipe.network_sections import Pretrain, Student, Teacher, Training
from idsnn_cli.recipe.values import Positive, Section, Seed
from idsnn_cli.registry import names
from idsnn_cli.rulebook import NONE
from idsnn_cli.training.losses import with_keys

__all__ = [
    "MEASURES",
    "Augment",
    "Claims",
    "Data",
    "Distill",
    "Eval",
    "Init",
    "MeanStd",
    "Measure",
    "Pretrain",
    "Recipe",
    "Runtime",
    "Student",
    "Teacher",
    "Training",
]

# Named by their files, which are read off the folder and not imported.
MEASURES = names("idsnn_cli.evaluation.measures")
if TYPE_CHECKING:
    Measure = str
    TrackerName = str
else:
    Measure = Literal[MEASURES]
    TrackerName = Literal[names("idsnn_cli.training.trackers")]


@with_keys("distill")
class Distill(Training):
    """The student's training and its loss.

    L = (1 - tet_weight) * CE + tet_weight * MSE(logits, tet_mean) + alpha * temperature^2 * KL(teacher || student)
    + feature_weight * features. ``features`` compares what stands behind each stage with the teacher's: ``mse`` behind
    a 1x1 alignment (KDSNN), or ``attention`` (LaSNN).

    With 0 ``epochs`` nothing is trained: the student is its first weights, and the keys about training mean nothing.
    ``source_rates`` trains a student of ``init.convert`` in the units of its source: what the conversion multiplied by
    c, to give spikes the worth of activations, takes the steps that it would have taken before, c^2 times as large with
    SGD and c times with AdamW. ``clip_norm`` still measures the gradients of the student.
    """

    epochs: Annotated[int, Field(ge=0)] = 200
    source_rates: bool = False
    baseline: Literal["none", "plain", "distilled"] = "none"

    @model_validator(mode="after")
    def _rivals(self) -> Self:
        if self.epochs == 0 and self.baseline != "none":
            raise ValueError(f"baseline {self.baseline} is a training, and epochs is 0; use baseline none")
        return self


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
    """Where and how the work runs; only ``precision`` and, in rounding, ``threads`` change what is computed.

    ``cuda_graph`` captures the training step on a GPU once and replays it (one process, not in fp16, direct coding).
    ``track`` names what the figures of each epoch are written to, beside the run directory.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    threads: Positive | None = None
    save_every_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    max_memory_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8.0
    cuda_graph: bool = True
    track: tuple[TrackerName, ...] = ()

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        kind, _, index = value.partition(":")
        if value in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and index.isdigit()):
            return value
        raise ValueError("give auto, cpu, cuda, cuda:N or mps")


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
    pretrain: Pretrain = Pretrain()
    distill: Distill = Distill()
    eval: Eval = Eval()
    runtime: Runtime = Runtime()
    claims: Claims = Claims()
    seed: Seed = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        held_out = self.data.validation is not None or data_needs(self.data.dataset).own_validation
        for key, split in (("data.select", self.data.select), ("eval.split", self.eval.split)):
            if split == "validation" and not held_out:
                raise ValueError(f"{key} is validation, but data.validation keeps no images for it")
        self._settle_frames()
        foreign = self.teacher.checkpoint is not None or self.init.source is not None
        if self.teacher.activation == "relu" and self.teacher.levels is not None and not foreign:
            raise ValueError("teacher: levels are for activation qcfs, or for a foreign file")
        if self.pretrain.epochs and self.init.rule == "none":
            raise ValueError("pretrain starts from mapped weights, but init.rule is none; use loop, best or 0 epochs")
        if self.pretrain.epochs and self.pretrain.activation == "relu" and self.init.rules().reads_learnt:
            raise ValueError(
                "pretrain trains a network of ReLUs, which learns no thresholds for init.convert; "
                "pretrain.activation=qcfs does"
            )
        if self.distill.source_rates and self.init.rules().convert == NONE:
            raise ValueError("distill.source_rates is for a converted start; name the conversion, as init.convert")
        return self

    def _settle_frames(self) -> None:
        """Let students read the frames of event data: as many as they have time steps, a new one at each."""
        name, coding = self.data.dataset, self.student.coding
        if not data_needs(name).frames:
            if coding == "frames":
                raise ValueError(f"student.coding is frames, and {name} holds images; leave it out")
            return
        if coding != "frames" and "coding" in self.student.model_fields_set:
            raise ValueError(f"student.coding is {coding}, and {name} holds frames, one for each step; leave it out")
        if self.init.rules().convert != NONE:
            raise ValueError(f"init.convert is for images: frames of {name} differ, so that no rate is an activation")
        timesteps = self.student.timesteps
        if self.data.frames not in (None, timesteps):
            raise ValueError(
                f"data.frames is {self.data.frames} and student.timesteps {timesteps}: a frame is one time step"
            )
        # Frozen once it is made; sections are copied, for those that are not given are shared.
        object.__setattr__(self, "data", self.data.model_copy(update={"frames": timesteps}))
        object.__setattr__(self, "student", self.student.model_copy(update={"coding": "frames"}))

    @property
    def data_seed(self) -> int:
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def teacher_seed(self) -> int:
        return self.seed if self.teacher.seed is None else self.teacher.seed

    @property
    def needs_teacher(self) -> bool:
        """False where neither the start nor a loss reads a teacher."""
        from_teacher = self.init.rule != "none" and self.init.source is None
        return from_teacher or self.distill.taught or self.pretrain.taught

    def portable(self) -> dict[str, Any]:
        """The resolved recipe as JSON-ready data without paths or machine settings, for a checkpoint."""
        plain = self.model_dump(mode="json", exclude={"runtime", "claims"})
        plain["runtime"] = {"precision": self.runtime.precision}
        for section, key in (
            ("data", "root"),
            ("data", "path"),
            ("data", "workers"),
            ("data", "shards"),
            ("teacher", "checkpoint"),
            ("teacher", "scheme"),
            ("init", "source"),
        ):
            plain[section].pop(key)
        return plain
