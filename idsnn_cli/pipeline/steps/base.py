"""What a step is. ``run``, ``--dry-run``, grids, sharing and reports walk over the steps and know none by name."""

from __future__ import annotations

import graphlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from idsnn_cli import registry
from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256
from idsnn_cli.outputs import check_output
from idsnn_cli.pipeline.run_directory import RunDirectory, best_of
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import Training
from idsnn_cli.results import Result
from idsnn_cli.sources.names import Source

STEPS = "idsnn_cli.pipeline.steps"
# Keys that name files or how to get them: what is in the files counts, by its hash. Workers change no image.
PLACES = (
    *("data.root", "data.path", "data.download", "data.shards", "data.workers"),
    *("teacher.checkpoint", "teacher.scheme", "init.source"),
)
# Keys of ``teacher`` that only the reading of a foreign file looks at.
FOREIGN_KEYS = ("normalise", "bottleneck_stride", "weights", "allow_unused", "kind", "root", "option_a")
FOREIGN = tuple(f"teacher.{key}" for key in (*FOREIGN_KEYS, "scheme"))


@dataclass(frozen=True, slots=True)
class Given:
    """Files that were named on the command line; None where the step's own are meant."""

    teacher: Source | None = None
    student: Path | None = None
    output: Path | None = None
    checkpoint: Source | None = None
    report: Path | None = None


@dataclass(frozen=True, slots=True)
class StepResult(Result):
    """What a step did."""

    step: Annotated[str, "its name"]
    status: Annotated[Literal["done", "unchanged"], "whether it was done now or before"]
    outputs: Annotated[tuple[Path, ...], "the files that it stands for"]
    figures: Annotated[dict[str, Any], "what it found, as its record in the run directory has it"] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class StepsDone(Result):
    """What a command of steps did."""

    run_dir: Annotated[str | None, "the run directory; null where the command names its files itself"]
    steps: Annotated[tuple[StepResult, ...], "in the order in which they were done"]


@dataclass(frozen=True, slots=True)
class Reads:
    """The recipe's keys that decide what a step makes: whole ``sections`` but for the ``unread`` keys, and ``keys``."""

    sections: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def covers(self, key: str) -> bool:
        """Whether the step reads ``key``, dotted; so it does where only a key inside it is named or read."""
        section = key.partition(".")[0]
        whole = section in self.sections and not any(_within(key, each) for each in self.unread)
        return whole or any(_within(key, each) or _within(each, key) for each in self.keys)

    def values(self, plain: dict[str, Any]) -> dict[str, Any]:
        """The part of a resolved recipe that is read, by section; keys that name files are left out."""
        found: dict[str, Any] = {}
        for section, value in plain.items():
            if not isinstance(value, dict):
                found |= {section: value} if self.covers(section) else {}
                continue
            kept = {
                key: each
                for key, each in value.items()
                if f"{section}.{key}" not in PLACES and self.covers(f"{section}.{key}")
            }
            if kept or section in self.sections:
                found[section] = kept
        return found


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


class Step(ABC):
    """One step of a run; ``name`` is its command's and its folder's.

    ``network`` is what it makes as eval.json calls it, and its file is ``NETWORK.safetensors``; ``after`` are the
    steps that come before it, ``section`` is that of the recipe by which it trains; ``shared`` is the folder of a grid
    in which those runs have it done that differ in nothing that it reads (None: each does its own). ``alone`` says
    that it has a command, and ``makes_weights`` that it makes a network and does not only measure some, for which it
    would come behind all that do.
    """

    name: str
    network: str
    after: tuple[str, ...] = ()
    section: Literal["teacher", "pretrain", "distill"] | None = None
    shared: str | None = None
    alone: bool = True
    makes_weights: bool = True

    @abstractmethod
    def wanted(self, recipe: Recipe) -> bool:
        """Whether ``idsnn run`` does it."""

    @abstractmethod
    def reads(self, recipe: Recipe) -> Reads:
        """The keys that decide what it computes, beside what it reads from files."""

    def needs(self, recipe: Recipe) -> tuple[str, ...]:
        """The steps whose outputs it reads."""
        return ()

    def taught(self, recipe: Recipe) -> bool:
        """Whether a teacher sees every image of its training."""
        return False

    def settings(self, workspace: Workspace) -> dict[str, Any]:
        """The values that :meth:`reads` names, as its record keeps them."""
        reads = self.reads(workspace.recipe)
        found = reads.values(workspace.recipe.model_dump(mode="json"))
        if "runtime" in found:
            found["runtime"] = {"precision": workspace.precision}
        if "teacher.scheme" in reads.keys and workspace.recipe.teacher.scheme is not None:
            found["teacher"]["scheme"] = file_sha256(workspace.recipe.teacher.scheme)
        return found

    def foreign(self, recipe: Recipe) -> tuple[Source, ...]:
        """The networks from outside that the recipe names for it, ours or not."""
        return ()

    def description(self, recipe: Recipe, num_classes: int, in_channels: int) -> Architecture | None:
        """What it trains, as far as the recipe tells."""
        return None

    @abstractmethod
    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        """The files that it writes, by the names that its record gives them."""

    @abstractmethod
    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        """Let what would stop it stop the command now, and add the networks that it makes or reads to ``plan``."""

    @abstractmethod
    def do(self, run: RunDirectory, given: Given) -> StepResult:
        """Do it, go on with it or leave it, as its record in the run directory says."""

    # What follows from these

    def measured(self, recipe: Recipe) -> bool:
        """Whether eval measures its network where it is there: one of a run that wants it."""
        return self.section is not None and self.wanted(recipe)

    def training(self, recipe: Recipe) -> Training | None:
        """The section by which it trains; the baseline trains as the student does."""
        return None if self.section is None else getattr(recipe, self.section)

    def untrained(self, recipe: Recipe) -> bool:
        """Whether it makes its network without training, so that there is no best epoch."""
        section = self.training(recipe)
        return section is None or section.epochs == 0

    def file(self, run: RunDirectory, *, best: bool = False) -> Path:
        """The checkpoint that it writes: its last epoch's, or the best one's."""
        last = run.path / f"{self.network}.safetensors"
        return best_of(last) if best else last

    def kept(self, run: RunDirectory) -> Path:
        """The checkpoint of it that the next step reads, by the recipe's ``keep``."""
        recipe = run.workspace.recipe
        section = self.training(recipe)
        return self.file(run, best=section is not None and section.keep == "best" and not self.untrained(recipe))

    def folder(self, run: RunDirectory) -> Path:
        return run.path / self.name

    def destination(self, run: RunDirectory, output: Path | None) -> Path:
        """Where it writes its checkpoint. Raises :class:`WriteError` where ``output`` can be no file, before hours of
        training find out.
        """
        if output is None:
            return self.file(run)
        check_output(output, force=True)  # a step's own record says whether it may be replaced
        return output


@dataclass
class Plan:
    """What is found out of the ``steps`` that a command would do: the networks by name, and how many of the first
    weights' values the initializer would copy, interpolate and leave random (None where it maps nothing).
    """

    steps: tuple[str, ...]
    networks: dict[str, Architecture] = field(default_factory=dict)
    mapping: dict[str, int] | None = None


def step(name: str) -> Step:
    """The step called ``name``."""
    return registry.find(STEPS, name, Step)


@cache
def all_steps() -> tuple[Step, ...]:
    """Every step, each behind those that it comes after, and what measures behind all that make a network."""
    found = registry.entries(STEPS, Step)
    makers = tuple(name for name, each in found.items() if each.makes_weights)
    after = {name: each.after if each.makes_weights else (*each.after, *makers) for name, each in found.items()}
    for name, earlier in after.items():
        if unknown := set(earlier) - found.keys():
            raise TypeError(f"the step {name} comes after {', '.join(sorted(unknown))}, which is no step")
    order = graphlib.TopologicalSorter(after).static_order()
    return tuple(found[name] for name in order)


def steps_of_run(recipe: Recipe) -> tuple[Step, ...]:
    """What ``idsnn run`` does, in order."""
    return tuple(each for each in all_steps() if each.wanted(recipe))


def depends_on(one: Step, key: str, recipe: Recipe) -> bool:
    """Whether ``key`` can change what ``one`` makes: it reads the key, or reads what another step makes of it."""
    needed = [step(name) for name in one.needs(recipe)]
    # Of a step that trains ``keep`` says which file is read.
    chosen = any(key == f"{each.section}.keep" for each in needed)
    return chosen or one.reads(recipe).covers(key) or any(depends_on(each, key, recipe) for each in needed)
