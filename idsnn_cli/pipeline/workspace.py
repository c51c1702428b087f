"""What one command works with: the recipe, the device, the data, the networks from outside, and who listens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from idsnn_cli.architecture import BottleneckStride
from idsnn_cli.data import DataBundle, DataPlan, Split, load_data, plan_data
from idsnn_cli.data.channels import candidates
from idsnn_cli.errors import DataError
from idsnn_cli.families import Reading, SpikingReading
from idsnn_cli.models import Model, load, load_identified
from idsnn_cli.pipeline.class_order import Order, class_order, learnt_classes, reorder_head
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.settling import Settled, Settling
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import MeanStd as RecipeMeanStd
from idsnn_cli.recipe.schema import Student
from idsnn_cli.sources.names import Published, Source
from idsnn_cli.sources.opened import OpenedSource, Shelf
from idsnn_cli.sources.tables import read_scheme
from idsnn_cli.spiking.kernels import tell_through
from idsnn_cli.spiking.precision import chosen_precision
from idsnn_cli.training import Events, keep_freed_memory, resolve_device, settle_gpu


def spiking_reading(student: Student, *, whole: bool) -> SpikingReading:
    """What a state dict of a spiking network does not hold, as a ``student`` section says it.

    Unless the section is a ``whole`` student's, what it does not give is left to the file where that may know it: the
    decay, and the kind of blocks.
    """
    given = student.model_fields_set
    return SpikingReading(
        timesteps=student.timesteps,
        neuron=student.neuron(),
        # The start of learnt decays is not what a file's neurons have.
        decay=student.learn_decay == "none" and (whole or bool(given & {"decay", "tau"})),
        block=student.block if whole or "block" in given else None,
        join=student.join,
        coding=student.coding,
        stem_padding=student.stem_padding,
    )


@dataclass
class Workspace:
    """``name`` is the recipe's, ``text`` the recipe as given, None where it came out of a checkpoint or from options.

    ``data_given`` is False where the recipe's data section only fills its place (``idsnn init --from``), and
    ``num_classes_given`` and ``in_channels_given`` are the student's classes and channels where no data says so;
    ``levels_given`` those of a foreign file's QCFS activations where no recipe says so. ``students`` says what sources
    that are state dicts of spiking networks do not hold.
    """

    recipe: Recipe
    name: str
    text: str | None = None
    data_given: bool = True
    num_classes_given: int | None = None
    in_channels_given: int | None = None
    levels_given: int | None = None
    events: Events = field(default_factory=Events)
    shelf: Shelf = field(default_factory=Shelf)
    students: dict[Source, SpikingReading] = field(default_factory=dict)
    _settling: Settling = field(default_factory=Settling)
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.shelf.say = self.shelf.say or self.say

    def say(self, message: str) -> None:
        """Tell a person something."""
        self.events.say(message)

    def say_once(self, message: str) -> None:
        """Tell ``message``, which several steps may come upon, the first time only."""
        if message not in self._said:
            self._said.add(message)
            self.events.say(message)

    # The machine

    @cached_property
    def device(self) -> torch.device:
        return resolve_device(self.recipe.runtime.device, self.say_once)

    @cached_property
    def precision(self) -> str:
        """What trainings compute in."""
        return chosen_precision(self.recipe.runtime.precision, self.device)

    @property
    def measuring_precision(self) -> str:
        """What networks are measured in once they are made: float32 where the recipe leaves it open.

        A figure that is published must not hang on the machine that measures it, as bf16's would.
        """
        return "fp32" if self.recipe.runtime.precision == "auto" else self.precision

    @property
    def dtype(self) -> torch.dtype:
        """What weights are held in."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def settle_process(self) -> None:
        """Set this process's threads as the recipe says, let it keep freed memory where the CPU computes, and a GPU
        choose its algorithms; tell where one does without Triton's kernels.

        Raises :class:`UsageError` for a wrong IDSNN_FUSED in the environment.
        """
        tell_through(self.say_once)
        if self.device.type == "cpu":
            keep_freed_memory()
        elif self.device.type == "cuda":
            settle_gpu()
        if self.recipe.runtime.threads is not None:
            torch.set_num_threads(self.recipe.runtime.threads)

    # The data

    @cached_property
    def data(self) -> DataBundle:
        return load_data(
            self.recipe.data,
            seed=self.recipe.data_seed,
            max_memory_gb=self.recipe.runtime.max_memory_gb,
            device=self.device,
            say=self.say,
        )

    @cached_property
    def data_plan(self) -> DataPlan:
        """What reading the data would take, looked at once."""
        return plan_data(self.recipe.data)

    @property
    def has_data(self) -> bool:
        """Whether the data has been read already."""
        return "data" in self.__dict__

    @property
    def num_classes(self) -> int:
        """The student's classes; read off the data's files where that is enough."""
        if self.num_classes_given is not None:
            return self.num_classes_given
        planned = None if self.has_data else self.data_plan.num_classes
        return planned or self.data.num_classes

    @property
    def image_channels(self) -> int | None:
        """Of the data's images; None where there are no data."""
        if self.has_data:
            return self.data.channels
        return self.data_plan.channels if self.data_given else None

    @property
    def frames(self) -> int | None:
        """T of the data's recordings; None of images, and where there are no data."""
        if self.has_data:
            return self.data.frames
        return self.data_plan.frames if self.data_given else None

    def takes_events_for(self, source: Source) -> bool:
        """Whether a student of events starts from a network of other images, whose normalisation is not theirs."""
        if self.frames is None:
            return False
        with self.open(source, download=False) as opened:
            return opened.architecture.in_channels != self.image_channels

    @property
    def in_channels(self) -> int:
        """What networks made here read: the channels of the data, or the source's where there are none."""
        return self.image_channels or self.in_channels_given or 3

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the data; empty where only reading it would tell."""
        if self.has_data:
            return self.data.classes
        return self.data_plan.classes if self.data_given else ()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width; read off the data's files where that is enough."""
        planned = None if self.has_data else self.data_plan.image_size
        return planned or self.data.image_size

    def split(self, name: str) -> Split:
        """``test`` or ``validation``. Raises :class:`DataError` where the recipe keeps no validation images."""
        chosen = self.data.test if name == "test" else self.data.validation
        if chosen is None:
            raise DataError(
                f"the {self.data.name} data of this recipe has no validation images",
                "Set data.validation to a count or a fraction, or choose the test split.",
            )
        return chosen

    def portable_recipe(self) -> dict[str, Any]:
        """The recipe that a checkpoint carries: without paths, and without data that is not its own."""
        plain = self.recipe.portable()
        if not self.data_given:
            del plain["data"]
        return plain

    # Networks from outside

    @cached_property
    def reading(self) -> Reading:
        """How a foreign file is read: ``teacher.weights``, ``allow_unused``, ``root``, ``levels`` where the teacher is
        not trained here, and the table of ``scheme``.

        Raises :class:`SchemeError` for a table that is wrong.
        """
        teacher = self.recipe.teacher
        scheme = None if teacher.scheme is None else read_scheme(teacher.scheme)
        trained = teacher.checkpoint is None and teacher.activation == "qcfs"
        levels = self.levels_given or (None if trained else teacher.levels)
        # In a recipe they are those of one of its files.
        lenient = self.levels_given is None
        return Reading(
            weights=teacher.weights,
            allow_unused=teacher.allow_unused,
            scheme=scheme,
            kind=teacher.kind,
            root=teacher.root,
            levels=levels,
            lenient=lenient,
            option_a=teacher.option_a,
        )

    def reading_of(self, source: Source) -> Reading:
        """:attr:`reading`, with what images showed of the file; of a student with what its file does not tell."""
        shown = replace(self.reading, option_a=self._settling.forms.get(source, self.reading.option_a))
        if source not in self.students:
            return shown
        return replace(shown, kind="spiking", spiking=self.students[source])

    @property
    def bottleneck_stride(self) -> BottleneckStride | None:
        return self.recipe.teacher.bottleneck_stride

    def open(self, source: Source, *, download: bool = True) -> OpenedSource:
        """``source`` in an open file; a foreign one is read as the ``teacher`` section says, and opened once."""
        return self.shelf.open(source, self.reading_of(source), download=download)

    def ensure(self, source: Source) -> None:
        """Download what is published and not on this machine; one process does it, and says so, and its name stands for
        the same file in all.
        """
        if not isinstance(source, Published):
            return

        def fetched() -> dict[str, str]:
            source.fetch(self.say)
            return source.origin()

        source.settle(decided_by_main(fetched))

    def sha256(self, source: Source) -> str:
        """Of the source's bytes."""
        with self.open(source) as opened:
            return opened.sha256

    def settle_normalisation(self, source: Source) -> Settled:
        """The normalisation to read ``source`` with; see :meth:`Settling.normalisation`."""
        return self._settling.normalisation(self, source)

    def settle_option_a(self, source: Source) -> None:
        """Find where ``source`` has the zeros of its option-A shortcuts; see :meth:`Settling.option_a`."""
        self._settling.option_a(self, source)

    def normalisation_words(self, channels: int) -> str:
        """What a source of so many channels that does not carry its input normalisation is given, in words."""
        chosen = self.recipe.teacher.normalise
        if chosen is None:
            mean = ", the mean of its three channels" if channels == 1 else ""
            return f"ImageNet's{mean} (name another with teacher.normalise)"
        return "the recipe's teacher.normalise" if isinstance(chosen, RecipeMeanStd) else f"that of {chosen}"

    def load_network(self, source: Source, device: torch.device | str = "cpu", *, look: bool = True) -> Model:
        """The network in ``source``, of the workspace's precision, a foreign one as ``teacher`` says. The
        classes are in the data's order where the source names them.

        Without ``look`` nothing is looked for in images: the description is right, the normalisation need not be.
        """
        if look:
            self.settle_option_a(source)
        with self.open(source) as opened:
            if not opened.foreign:
                return reorder_head(load(source, device=device), self.class_order(source)).to(self.dtype)
            self._tell(opened)
            anything = self.recipe.teacher.normalise == "auto" and not look
            values = None if anything else self.settle_normalisation(source).values
            unscaled = candidates(opened.architecture.in_channels)["none"]
            model = load_identified(
                opened.network,
                source,
                device=device,
                normalise=unscaled if anything and not opened.normalises_itself else values,
                bottleneck_stride=self.bottleneck_stride,
            )
        return model.to(self.dtype)

    def class_order(self, source: Source) -> Order | None:
        """For each class of the data its place in the head of ``source``, where that names the same ones otherwise."""
        with self.open(source, download=False) as opened:
            return class_order(learnt_classes(opened.metadata), self.class_names)

    def tell_channels(self, source: Source, channels: int) -> None:
        """Say, once, what a network of other channels than the images is shown of them."""
        have = self.image_channels
        if have is not None and have != channels and {have, channels} == {1, 3}:
            how = "the mean of the images' three" if channels == 1 else "the images' one in each"
            self.say_once(f"{source} reads {channels} channel{'' if channels == 1 else 's'}: it is shown {how}")

    def _tell(self, opened: OpenedSource) -> None:
        for words in opened.remarks():
            self.say_once(f"{opened.source}: {words}")
        if opened.strides_untold and self.bottleneck_stride is None:
            self.say_once(
                f"{opened.source}: its bottlenecks are taken to stride in the 3x3 convolution, which names cannot tell "
                "(--bottleneck-stride 1x1, teacher.bottleneck_stride=1x1 for the original form)"
            )
