"""Work without a recipe or a run directory: ``init --from``, ``inspect --plan`` and ``eval --checkpoint``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.architecture import Architecture, options_like
from idsnn_cli.errors import MissingInputError, UsageError
from idsnn_cli.families import Reading
from idsnn_cli.initializer import Plan as Mapping
from idsnn_cli.initializer import classes_or_source, count_values, merges
from idsnn_cli.models import GIVE_CONSTANTS, Network
from idsnn_cli.outputs import check_output
from idsnn_cli.pipeline.first_weights import first_weights
from idsnn_cli.pipeline.preview import PlannedStep, Preview, described_preview, planned_data
from idsnn_cli.pipeline.requirements import check_sizes, distinct, usable
from idsnn_cli.pipeline.steps.base import Given, Plan, StepResult
from idsnn_cli.pipeline.steps.eval import check_measuring
from idsnn_cli.pipeline.steps.init import write_start
from idsnn_cli.pipeline.workspace import Workspace, spiking_reading
from idsnn_cli.recipe import Recipe, recipe_from_mapping, split_words
from idsnn_cli.recipe.data_section import DATA_SETS, data_needs
from idsnn_cli.recipe.schema import Student
from idsnn_cli.registry import names
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import OpenedSource, Shelf, require
from idsnn_cli.sources.tables import read_scheme
from idsnn_cli.training import Events

# Fills the place of a data section that the overrides do not give; digits need no files.
PLACEHOLDER = {"dataset": "digits"}
# The same for a network of frames.
RECORDINGS = {"dataset": "nmnist"}
STUDENT = "student."
# What a foreign file may be said to be that a teacher is not.
SPIKES = ("kind", "spiking")


@dataclass(frozen=True, slots=True)
class Request:
    """A network that is named on the command line, and how it is to be read.

    ``option`` names it (``--from``); ``words`` are the overrides beside it; ``foreign`` holds the options about a
    foreign file by their key in ``teacher``.
    """

    source: Source
    option: str
    words: Sequence[str]
    foreign: dict[str, Any]
    events: Events

    def overrides(self) -> list[str]:
        """The overrides. Raises :class:`UsageError` for a recipe."""
        word, overrides = split_words(self.words)
        if word is not None:
            raise UsageError(f"both {self.option} and the recipe '{word}' are given", "Use one of them.")
        return overrides

    def reading(self) -> Reading:
        """Raises :class:`SchemeError` for a table of names that is wrong, :class:`UsageError` where ``--kind spiking``
        does not come with T and the neurons' constants.
        """
        scheme, kind = self.foreign.get("scheme"), self.foreign.get("kind", "auto")
        return Reading(
            self.foreign.get("weights", "auto"),
            self.foreign.get("allow_unused", False),
            None if scheme is None else read_scheme(Path(scheme)),
            kind,
            spiking_reading(self._student(), whole=False) if kind == "spiking" else None,
            self.foreign.get("root"),
            self.foreign.get("levels"),
            option_a=self.foreign.get("option_a"),
        )

    def _student(self) -> Student:
        """The student that the overrides describe; what has no usual value has to be among them."""
        words = [word for word in self.overrides() if word.startswith(STUDENT)]
        data = RECORDINGS if f"{STUDENT}coding=frames" in words else PLACEHOLDER
        recipe = recipe_from_mapping({"data": dict(data)}, words, origin=f"the options beside {self.option}")
        given = recipe.student.model_fields_set
        missing = [f"{STUDENT}{key}" for key in ("timesteps", "v_threshold") if key not in given]
        if missing:
            raise UsageError(f"--kind spiking leaves out {' and '.join(missing)}", GIVE_CONSTANTS)
        unread = sorted(
            given
            & {
                *("arch", "width", "stem", "shortcut", "amplitude", "learn_decay", "learn_start"),
                *("surrogate", "surrogate_scale"),
            }
        )
        if unread:
            raise UsageError(
                f"{STUDENT}{unread[0]} does not go with --kind spiking: the tensors tell it, or only training reads it",
                "Leave it out.",
            )
        return recipe.student

    def section(self) -> dict[str, Any]:
        """The options by their keys in ``teacher``, but for the levels, which a trained teacher has too, and for
        what no teacher is.
        """
        return {key: value for key, value in self.foreign.items() if key != "levels" and (key, value) != SPIKES}


# Mapping a network into a student


def mapping_workspace(request: Request, arch: str, num_classes: int | None) -> Workspace:
    """A workspace that maps the request's network into the student ``arch``.

    The student's stem, shortcuts and classes are the source's unless options or overrides say otherwise. Raises
    :class:`UsageError` for what nothing would read, and where a rule needs images that are not named.
    """
    source, overrides = request.source, request.overrides()
    _refuse_unread(request, overrides)
    shelf = Shelf(request.events.say)
    with shelf.open(source, request.reading(), download=False) as opened:
        network = opened.network
        found, classes = network.architecture, classes_or_source(num_classes, network)
        given = [word for word in overrides if word.startswith("teacher.normalise")]
        named = request.foreign.get("normalise", "auto") != "auto" or any(
            word != "teacher.normalise=auto" for word in given
        )
        if named and network.carries_normalisation:
            raise UsageError(f"{source} carries its own input normalisation", "Leave the normalisation out.")
        student = {"arch": arch, **options_like(arch, found)}
        plain: dict[str, Any] = {"data": dict(PLACEHOLDER), "student": student, "teacher": request.section()}
        where = "inspect --plan" if request.option == "--plan" else f"init {request.option}"
        recipe = recipe_from_mapping(plain, overrides, origin=f"the options of {where}")
        data_given = any(word.startswith("data.dataset=") for word in overrides)
        _refuse_missing(recipe, network, recipe.student.architecture(classes, found.in_channels), data_given=data_given)
    workspace = Workspace(
        recipe,
        source.name,
        data_given=data_given,
        num_classes_given=classes,
        in_channels_given=found.in_channels,
        levels_given=request.foreign.get("levels"),
        events=request.events,
        shelf=shelf,
    )
    workspace.settle_option_a(source)
    with workspace.open(source, download=False) as opened:
        # The student's shortcuts are the source's, which the images may have shown only now.
        plain["student"] = {"arch": arch, **options_like(arch, opened.architecture)}
        workspace.recipe = recipe_from_mapping(plain, overrides, origin=f"the options of {where}")
    return workspace


def check_mapping(request: Request, arch: str | None, output: Path | None, *, force: bool) -> tuple[str, Path]:
    """The student's name and the file to write, once it is known that both are there and the file can be written.

    Raises :class:`UsageError`, :class:`MissingInputError` or :class:`WriteError`.
    """
    _refuse_unread(request, request.overrides())
    if arch is None:
        raise UsageError("--from needs --arch", "Name the student, for example --arch spiking-resnet18.")
    if output is None:
        raise UsageError("--from needs -o FILE", "Name the file to write, for example -o init.safetensors.")
    require_source(request)
    check_output(output, force=force)
    return arch, output


def require_source(request: Request) -> None:
    """Raise :class:`MissingInputError` where the network that is named is not there."""
    if isinstance(request.source, Path) and not request.source.exists():
        raise MissingInputError(
            f"the network to start from is not there: {request.source}", f"Correct {request.option}."
        )


def preview_mapping(workspace: Workspace, source: Source, target: Path) -> Preview:
    """What :func:`write_mapping` would read, download and write."""
    data = planned_data(workspace)
    student = workspace.recipe.student.architecture(workspace.num_classes, workspace.in_channels)
    check_output(target, force=True)
    plan = Plan(("init",), {"student": student})
    require(source, "the network to start from", "Correct --from.")
    with workspace.open(source, download=False) as opened:
        network = opened.network
        plan.networks["source"] = network.architecture
        plan.mapping = count_values(network.architecture, student, network.all_names, workspace.recipe.init.rules())
    steps = [PlannedStep("init", "not started", (str(target),))]
    return described_preview(workspace, plan, [source], steps, data=data)


def write_mapping(workspace: Workspace, source: Source, target: Path) -> StepResult:
    """``init`` outside a run directory: the checkpoint alone, which carries the mapping too."""
    check_output(target, force=True)
    distinct(target, source)
    workspace.ensure(source)
    figures = write_start(workspace, source, workspace.recipe.init.rules(), target)
    return StepResult("init", "done", (target,), figures)


def plan_mapping(workspace: Workspace, source: Source) -> tuple[dict[str, torch.Tensor], Mapping]:
    """The student's first weights and how they came about, as :func:`write_mapping` would write them."""
    workspace.ensure(source)
    found = first_weights(workspace, source, workspace.recipe.init.rules())
    return found.state, found.plan


def _refuse_unread(request: Request, overrides: Sequence[str]) -> None:
    """Raise :class:`UsageError` for overrides that nothing would read."""
    data_named = any(word.startswith("data.dataset=") for word in overrides)
    for word in overrides:
        key = word.partition("=")[0]
        section = key.partition(".")[0]
        if section == "data" and not data_named:
            raise UsageError(f"{word} is about no data set", "Give data.dataset=NAME with it, or leave it out.")
        read = key.startswith("teacher.normalise") or key == "distill.batch_size"
        of_runs = section in ("teacher", "pretrain", "distill", "eval") and not read
        if key in ("student.arch", "init.source") or of_runs:
            raise UsageError(f"{word} does not go with {request.option}", "Leave it out: nothing would read it.")


def _refuse_missing(recipe: Recipe, network: Network, student: Architecture, *, data_given: bool) -> None:
    """Raise :class:`UsageError` for a start that needs no source, or images that are not named.

    ``network`` is the source, ``student`` the description of what is made of it.
    """
    init = recipe.init
    if init.rule == "none":
        raise UsageError("init.rule none needs no source", "Leave the rule out, or give loop or best.")
    if data_given:
        return
    rules = init.rules()
    merging = merges(rules, network.architecture, student, network.names)
    needs = {
        "re-estimating BatchNorm (reestimate)": init.reestimate > 0,
        **{str(rule): rule.always_looks or (rule.merges and merging) for rule in rules.used()},
        "calibrating biases (calibrate)": init.calibrate > 0,
    }
    wanted = [words for words, needed in needs.items() if needed]
    if wanted:
        raise UsageError(
            f"training images are needed by {' and '.join(wanted)}",
            "Give data.dataset=NAME (and data.path or data.root), or choose other rules.",
        )


# Measuring a checkpoint


def measuring_workspace(request: Request, data: str | None, device: Sequence[str]) -> Workspace:
    """The workspace to measure the request's network in, by the recipe that it carries if it is ours.

    ``data`` (``NAME`` or ``NAME:PATH``) replaces the checkpoint's own data section, which never holds a path;
    ``device`` is the override of the device. Raises :class:`UsageError` where neither says which images to use.
    """
    path, overrides, foreign = request.source, request.overrides(), request.foreign
    if isinstance(path, Path) and not path.exists():
        raise MissingInputError(f"the checkpoint is not there: {path}", "Correct its path.")
    shelf, reading = Shelf(request.events.say), request.reading()
    with shelf.open(path, reading, download=False) as opened:
        metadata = opened.metadata
    spiking = foreign.get("kind") == "spiking"
    said = [word for word in overrides if word.startswith(STUDENT)]
    if said and not spiking:
        raise UsageError(
            f"{said[0]} would change nothing",
            "A checkpoint of idsnn says itself what it is. With the state dict of a spiking network give --kind "
            "spiking.",
        )
    if "architecture" in metadata and foreign.get("normalise") == "auto":
        foreign = {key: value for key, value in foreign.items() if key != "normalise"}  # it carries what is asked for
    if foreign and "architecture" in metadata:
        given = ", ".join(f"--{key.replace('_', '-')}" for key in foreign)
        raise UsageError(
            f"{path} is a checkpoint of idsnn: it carries its own input normalisation and leaves no choice",
            f"Leave {given} out.",
        )
    plain: dict[str, Any] = dict(metadata.get("recipe", {}))
    # Of the training's precision only fp64 matters to measuring, and a CPU measures what a GPU trained in bf16.
    if plain.get("runtime", {}).get("precision") != "fp64":
        plain.pop("runtime", None)
    if data is not None:
        plain["data"] = _named_data(data)
    elif "data" not in plain and not any(each.startswith("data.dataset=") for each in overrides):
        raise UsageError(
            f"{path} does not say which images it is for",
            "Name them: --data cifar10, or --data npz:FILE, or data.dataset=NAME.",
        )
    said_of_it = replace(request, foreign=foreign).section()
    if said_of_it:
        plain["teacher"] = dict(plain.get("teacher", {})) | said_of_it
    recipe = recipe_from_mapping(plain, [*overrides, *device], origin=f"the recipe in {path.name}")
    students = {} if reading.spiking is None else {path: reading.spiking}
    levels = request.foreign.get("levels")
    return Workspace(recipe, path.name, levels_given=levels, events=request.events, shelf=shelf, students=students)


def data_words(data: str) -> list[str]:
    """``NAME`` or ``NAME:PATH`` as overrides of a recipe's data section."""
    return [f"data.{key}={value}" for key, value in _named_data(data).items()]


def foreign_words(opened: OpenedSource, normalise: str, option_a: str | None) -> list[str]:
    """What is said of a foreign file, as overrides; one of ours carries it."""
    if not opened.foreign:
        return []
    words = [] if opened.normalises_itself else [f"teacher.normalise={normalise}"]
    return [*words, *([] if option_a is None else [f"teacher.option_a={option_a}"])]


def _named_data(data: str) -> dict[str, Any]:
    """The section that ``NAME`` or ``NAME:PATH`` stands for: the path is that of the images, or the folder of sets."""
    name, _, where = data.partition(":")
    if not where or name not in names(DATA_SETS):  # what there is not is refused by the recipe
        return {"dataset": name}
    needs = data_needs(name)
    if needs.shards:
        raise UsageError(
            f"--data {data} names a path, and {name} is read from tar files to train and to test on",
            f"Give --data {name} and the overrides data.shards.train=... and data.shards.test=...",
        )
    if not (needs.path or needs.download or needs.frames):
        raise UsageError(f"--data {data} names a path, but {name} comes with the package", f"Give --data {name}.")
    return {"dataset": name, "path" if needs.path else "root": where}


def preview_measuring(workspace: Workspace, given: Given) -> Preview:
    """What measuring ``given.checkpoint`` would read, download and write."""
    assert given.checkpoint is not None
    data = planned_data(workspace)
    plan = Plan(("eval",))
    plan.networks[given.checkpoint.name] = usable(workspace, given.checkpoint, teaches=False)
    check_sizes(workspace, plan.networks)
    check_measuring(workspace, plan, given)
    files = tuple(str(path) for path in (given.output, given.report) if path is not None)
    steps = [PlannedStep("eval", "not started", files)]
    return described_preview(workspace, plan, [given.checkpoint], steps, data=data)
