"""What a measure is: how it comes about, what it finds, and how that is shown. Each one is a file of ``measures``.

All that were asked for take as few passes over the images as they need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from idsnn_cli.errors import MissingPackageError
from idsnn_cli.evaluation.accuracy import Evaluation, MeasuredNetwork, evaluate
from idsnn_cli.evaluation.observation import Observation
from idsnn_cli.figures import Plot, ResultTable
from idsnn_cli.models import Model
from idsnn_cli.registry import entries, find, names

Found = TypeVar("Found")
Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
MEASURES = "idsnn_cli.evaluation.measures"


def _silent(words: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured, and on what.

    ``batches()`` starts over with all images (N, C, H, W) in 0 to 1 and labels (N,), in order, on the model's device.
    ``timesteps`` is how far what goes beyond the network's own steps goes, twice as many unless given. ``say`` is told
    what a long measure is at.
    """

    model: Model
    batches: Batches
    seed: int = 0
    timesteps: int | None = None
    say: Callable[[str], None] = _silent


@dataclass(frozen=True, slots=True)
class Shown(Generic[Found]):
    """What one network showed; ``number`` is its place in the document, which gives its colour in every plot."""

    number: int
    network: MeasuredNetwork
    found: Found


class Measure(ABC, Generic[Found]):
    """A measure. Its name is its file's, with hyphens; its JSON key the file's name itself.

    ``words`` say what it is; ``found`` is the type of what it finds: a :class:`~idsnn_cli.results.Result`, or lists,
    dictionaries and numbers of them. What ``needs_steps`` is None (and null in the JSON) for an ANN, and what is
    ``of_images`` alone where recordings of events are measured on. ``package`` is a
    library that it alone needs, by the name to import, and the extra of this package that brings it. ``remarks_title``
    is above what :meth:`remarks` says.
    """

    words: ClassVar[str]
    found: ClassVar[Any]
    needs_steps: ClassVar[bool] = False
    of_images: ClassVar[bool] = False
    package: ClassVar[tuple[str, str] | None] = None
    remarks_title: ClassVar[str] = ""

    def check(self, work: Work) -> None:
        """Raise, before anything is measured, what would stop the measure."""
        return

    @abstractmethod
    def table(self, found: Found, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        """The figures of one network; every measure has its own."""

    def plots(self, shown: Sequence[Shown[Found]], classes: Sequence[str]) -> Iterator[Plot]:
        """The plots of all networks that have figures; none unless there is something to see."""
        return iter(())

    def remarks(self, found: Found) -> Sequence[str]:
        """What must be said of the figures, once for all networks."""
        return ()


class ObservingMeasure(Measure[Found]):
    """A measure that looks on during the pass that accuracy takes anyway."""

    @abstractmethod
    def observe(self, work: Work) -> Observation[Found]:
        """What looks on."""


class RunningMeasure(Measure[Found]):
    """A measure that runs the network by itself."""

    @abstractmethod
    def run(self, work: Work) -> Found:
        """Run it, after the plain pass."""


def key_of(name: str) -> str:
    """The JSON key of a measure: ``early-exit`` stands under ``early_exit``."""
    return name.replace("-", "_")


def measure_names() -> tuple[str, ...]:
    """The names of all measures."""
    return names(MEASURES)


def available() -> tuple[str, ...]:
    """The names of the measures whose library is installed."""
    found = entries(MEASURES, Measure).items()
    return tuple(name for name, each in found if each.package is None or find_spec(each.package[0]) is not None)


def require_packages(measures: Collection[str]) -> None:
    """Raise :class:`MissingPackageError` where one of ``measures`` needs a library that is not installed."""
    for name in measures:
        package = find_measure(name).package
        if package is not None and find_spec(package[0]) is None:
            raise MissingPackageError(
                f"the measure {name} needs {package[0]}, which is not installed",
                f"Install it with: pip install 'idsnn-cli[{package[1]}]'",
            )


def find_measure(name: str) -> Measure[Any]:
    """The measure ``name``; :class:`UsageError` for one that there is not."""
    return find(MEASURES, name, Measure)


def all_measures() -> dict[str, Measure[Any]]:
    """Every measure by its JSON key."""
    return {key_of(name): each for name, each in entries(MEASURES, Measure).items()}


def many(count: int, what: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _recorded(batches: Batches) -> bool:
    """Whether what is measured on are recordings."""
    images, _ = next(iter(batches()), (None, None))
    return images is not None and images.dim() == 5


def legend_of(shown: Sequence[Shown[Any]]) -> tuple[tuple[int, str], ...]:
    """The networks' styles and names."""
    return tuple((each.number, each.network.name) for each in shown)


def measure_fully(
    model: Model,
    batches: Batches,
    measures: Collection[str],
    *,
    seed: int = 0,
    timesteps: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Evaluation, dict[str, Any]]:
    """The plain figures, and what ``measures`` found, by their JSON keys and in the order of their names.

    ``batches()`` starts over with all images (N, C, H, W) in 0 to 1 and labels (N,), in order, on the model's device.
    Measures that only look on do so during the pass that the plain figures take, which ``images_per_second`` then
    includes (``latency`` times the network alone); ``beyond`` is one more, ``robustness`` fifteen. ``timesteps`` is how
    far ``beyond`` goes (2T unless given). What needs time steps is None for an ANN, and what is for images alone where
    ``batches`` are recordings (N, T, C, H, W). Raises :class:`DataError` where
    there is no image, :class:`UsageError` where ``timesteps`` is not beyond the network's own, and
    :class:`MissingPackageError` where a measure's library is not installed.
    """
    work = Work(model, batches, seed, timesteps, say)
    spiking = model.architecture.kind == "spiking"
    require_packages(measures)
    asked = {name: find_measure(name) for name in sorted(measures)}
    possible = {name: each for name, each in asked.items() if spiking or not each.needs_steps}
    for each in possible.values():
        each.check(work)
    if any(each.of_images for each in possible.values()) and _recorded(batches):
        possible = {name: each for name, each in possible.items() if not each.of_images}
    with ExitStack() as stack:
        looking = {
            name: stack.enter_context(each.observe(work))
            for name, each in possible.items()
            if isinstance(each, ObservingMeasure)
        }
        plain = evaluate(model, batches(), seed=seed, observers=list(looking.values()))
    found: dict[str, Any] = dict.fromkeys(map(key_of, asked))
    for name, each in possible.items():
        found[key_of(name)] = each.run(work) if isinstance(each, RunningMeasure) else looking[name].result()
    return plain, found
