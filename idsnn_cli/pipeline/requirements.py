"""What a step must find before it works for hours: files that are there, and networks that fit each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture, read_description, stage_sizes
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.initializer import Plan as Start
from idsnn_cli.pipeline.class_order import differing_class, learnt_classes
from idsnn_cli.pipeline.run_directory import best_of
from idsnn_cli.pipeline.steps.base import FOREIGN_KEYS, Given, Step, all_steps
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import Teacher
from idsnn_cli.rules import Rules
from idsnn_cli.sources.names import Published, Source
from idsnn_cli.sources.opened import require
from idsnn_cli.text import shorten


def check_classes(workspace: Workspace, architecture: Architecture, path: Source, *, teaches: bool = True) -> None:
    """Raise :class:`UsageError` where the network in ``path`` has not as many classes as the data, says itself that it
    learnt others, or reads images of other channels.
    """
    classes = workspace.num_classes
    if architecture.num_classes != classes:
        raise UsageError(
            f"{path} tells {architecture.num_classes} classes apart, but {workspace.recipe.data.dataset} has {classes}",
            f"Use a teacher of the same classes. It can still be init.source, with {untaught(workspace.recipe)}."
            if teaches
            else "Measure it on images of its own classes.",
        )
    _check_channels(workspace, architecture, path)
    _check_frames(workspace, architecture, path)
    with workspace.open(path, download=False) as opened:
        theirs, ours = learnt_classes(opened.metadata), workspace.class_names
    if workspace.class_order(path) is not None:
        workspace.say_once(
            f"{path} learnt the same classes in another order: the rows of its linear layer are put into the data's"
        )
        return
    differing = differing_class(theirs, ours)
    if differing is not None:
        place, first, second = differing
        raise UsageError(
            f"{path} learnt other classes: its class {place} is {shorten(first)!r}, and that of the data "
            f"{shorten(second)!r}",
            "Use images of the network's own classes, and give them its names: "
            f"{', '.join(shorten(name) for name in theirs[:10])}{', ...' if len(theirs) > 10 else ''}.",
        )


def check_head(workspace: Workspace, source: Source, rules: Rules) -> None:
    """Raise :class:`UsageError` where the linear layer that ``rules`` copy is of other classes than the data's."""
    with workspace.open(source, download=False) as opened:
        theirs, ours = learnt_classes(opened.metadata), workspace.class_names
    differing = differing_class(theirs, ours)
    if rules.head not in ("copy", "match") or differing is None or len(theirs) != len(ours):
        return
    if workspace.class_order(source) is not None:
        return
    place, first, second = differing
    raise UsageError(
        f"head: {rules.head} would copy the linear layer of {source}, which learnt other classes: its class {place} is "
        f"{shorten(first)!r}, and that of the data {shorten(second)!r}",
        "Use head: random (--head random), or head: map with a class_map.",
    )


def _check_frames(workspace: Workspace, architecture: Architecture, path: Source) -> None:
    """Raise :class:`UsageError` where a spiking network reads frames and the data are images, or the other way round,
    or the frames are not as many.
    """
    if architecture.spiking is None or not workspace.data_given:
        return
    have, reads = workspace.frames, architecture.timesteps if architecture.coding == "frames" else None
    if have == reads:
        return
    name = workspace.recipe.data.dataset
    theirs = "one image" if reads is None else f"{reads} frames"
    ours = "images" if have is None else f"recordings of {have} frames"
    fix = "Use data of its kind."
    if have is not None and reads is not None:
        fix = f"Bin them to as many: student.timesteps={reads} data.frames={reads}."
    raise UsageError(f"{path} reads {theirs}, and {name} gives {ours}", fix)


def check_sizes(workspace: Workspace, networks: Mapping[str, Architecture]) -> None:
    """Raise :class:`UsageError` where images are too small for one of the ``networks`` that are to see them, by name.

    The source is only mapped. Where the size is not known before images are read, the network itself refuses them.
    """
    size = workspace.data_plan.image_size if workspace.data_given else None
    if size is None:
        return
    for name, architecture in networks.items():
        if name != "source":
            architecture.require_size(*size)


def _check_channels(workspace: Workspace, architecture: Architecture, path: Source) -> None:
    have, reads = workspace.image_channels, architecture.in_channels
    if have not in (None, reads) and {have, reads} != {1, 3}:
        raise UsageError(
            f"{path} reads images of {reads} channel{'' if reads == 1 else 's'}, and those of "
            f"{workspace.recipe.data.dataset} have {have}",
            "Use images of as many channels; only grey and three colours are shown as each other.",
        )
    workspace.tell_channels(path, reads)


def usable(workspace: Workspace, path: Source, *, teaches: bool = True) -> Architecture:
    """What the network in ``path`` is, once it is known that it can be read, and has as many classes as the data."""
    if isinstance(path, Published):
        with workspace.open(path, download=False) as opened:
            architecture = opened.network.architecture
    else:
        architecture = workspace.load_network(path, look=False).architecture
    check_classes(workspace, architecture, path, teaches=teaches)
    return architecture


def require_teacher(workspace: Workspace, path: Source) -> None:
    """Raise :class:`MissingInputError` where the teacher that a loss reads is not there."""
    words = f"Run `idsnn teacher` first, name one with --teacher FILE, or set {untaught(workspace.recipe)}."
    require(path, "the teacher", words)


def untaught(recipe: Recipe) -> str:
    """The overrides with which no loss reads a teacher."""
    words = [loss.off("pretrain") for loss in recipe.pretrain.teaching if recipe.pretrain.taught]
    words += [loss.off("distill") for loss in recipe.distill.teaching]
    return " and ".join(words) or "distill.alpha=0"


def check_features(workspace: Workspace, student: Architecture, teacher: Architecture) -> None:
    """Raise :class:`UsageError` where a term of the loss cannot compare the two networks' stages."""
    term = next((loss for loss in workspace.recipe.distill.teaching if loss.reads == "maps"), None)
    if term is None:
        return
    on, off = term.on("distill"), term.off("distill")
    if len(teacher.depths) != len(student.depths):
        raise UsageError(
            f"{on} compares stage by stage, but the teacher has {len(teacher.depths)} stages "
            f"and the student {len(student.depths)}",
            f"Use a teacher with as many stages, or {off}.",
        )
    height, width = workspace.image_size
    ours, theirs = (stage_sizes(each, height, width) for each in (student, teacher))
    if ours != theirs:
        sizes = [", ".join(f"{rows}x{columns}" for rows, columns in each) for each in (theirs, ours)]
        raise UsageError(
            f"{on} compares maps of equal size, but those behind the teacher's stages are "
            f"{sizes[0]}, and the student's {sizes[1]}",
            f"Give the student the teacher's stem (student.stem, student.stem_padding), or use {off}.",
        )


def distinct(target: Path, source: Source) -> None:
    """A step must not read what it is about to replace: its own output, or the best epoch's beside it."""
    if isinstance(source, Path) and os.path.realpath(source) in (
        os.path.realpath(target),
        os.path.realpath(best_of(target)),
    ):
        raise UsageError(f"{source} would be read and replaced by the same step", "Copy it to another name first.")


def read_start(start: Path, architecture: Architecture) -> tuple[Start | None, dict[str, Any]]:
    """The mapping and provenance in the student's first weights, once they are known to fit the recipe."""
    with open_checkpoint(start) as file:
        metadata = file.metadata
    if metadata is None or "architecture" not in metadata:
        raise CheckpointError(
            f"{start} is not a checkpoint of idsnn", "Make one with `idsnn init --from FILE --arch NAME -o FILE`."
        )
    stored = read_description(metadata["architecture"])
    if stored != architecture:
        raise UsageError(
            f"{start} holds a {stored.describe()}\nbut the recipe's student is a {architecture.describe()}",
            "Run `idsnn init --force` for the recipe's student, or change the student section.",
        )
    plan = Start.from_dict(metadata["mapping"]) if "mapping" in metadata else None
    return plan, dict(metadata.get("provenance", {}))


def foreign_sources(recipe: Recipe, steps: tuple[Step, ...], given: Given) -> list[Source]:
    """The networks from outside that ``steps`` would read, named by the recipe or on the command line, ours or not."""
    named = [given.checkpoint, given.teacher, *(source for each in steps for source in each.foreign(recipe))]
    return [source for source in dict.fromkeys(named) if source is not None]


def refuse_unread_keys(workspace: Workspace, steps: tuple[Step, ...], given: Given) -> None:
    """Raise :class:`UsageError` where ``teacher`` says how to read a foreign file, and neither recipe nor command names
    one.

    What only says ``auto`` asks for nothing, so it may stand anywhere. Steps that measure do not need the keys.
    """
    teacher, plain = workspace.recipe.teacher, Teacher()
    said = [key for key in FOREIGN_KEYS if getattr(teacher, key) not in (getattr(plain, key), "auto")]
    makes = any(each.makes_weights for each in steps)
    if not said or not makes:
        return
    sources = foreign_sources(workspace.recipe, all_steps(), given)
    if any(_foreign(workspace, source) for source in sources):
        return
    keys = " and ".join(f"teacher.{key}" for key in said)
    found = f"{', '.join(map(str, sources))} carries all that itself" if sources else "this recipe names none"
    hint = " A network that is trained here normalises as data.normalise says." if "normalise" in said else ""
    raise UsageError(
        f"{keys} {'is' if len(said) == 1 else 'are'} for a foreign file, and {found}",
        f"Leave {'it' if len(said) == 1 else 'them'} out, or name the file: teacher.checkpoint=FILE.{hint}",
    )


def _foreign(workspace: Workspace, source: Source) -> bool:
    if isinstance(source, Path) and not source.exists():
        return True  # whoever reads it says that it is not there
    with workspace.open(source, download=False) as opened:
        return opened.foreign
