"""What a step reads and where it writes, checked before it works for hours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture, read_description, stage_sizes
from idsnn_cli.checkpoint import fetch, open_checkpoint
from idsnn_cli.data import plan_data
from idsnn_cli.data.load import CONSTANTS, Triple
from idsnn_cli.errors import CheckpointError, MissingInputError, UsageError
from idsnn_cli.families import Certainty, Reading
from idsnn_cli.initializer import Plan
from idsnn_cli.models import described_in
from idsnn_cli.outputs import check_output
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.own_scheme import make_reading
from idsnn_cli.pipeline.session import Session, Step, best_of
from idsnn_cli.published import Published, Source
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import MeanStd

# The keys of ``teacher`` that only the reading of a foreign file looks at.
FOREIGN_KEYS = ("normalise", "bottleneck_stride", "weights", "allow_unused")


def ensure(session: Session, source: Source) -> None:
    """Download what is published and not on this machine; one process does it, and says so."""
    if isinstance(source, Published):
        decided_by_main(lambda: fetch(source, session.events.say))


def reading_of(path: Source, recipe: Recipe) -> Reading:
    """How ``path`` is read: a foreign file as ``teacher`` says, and ours, which leaves no choice, as it is."""
    if isinstance(path, Published):
        return foreign_reading(recipe)
    with open_checkpoint(path) as file:
        ours = described_in(file.metadata) is not None
    return Reading() if ours else foreign_reading(recipe)


def foreign_reading(recipe: Recipe) -> Reading:
    """``teacher.weights``, ``teacher.allow_unused`` and the table in ``teacher.scheme``."""
    return make_reading(recipe.teacher.weights, recipe.teacher.allow_unused, recipe.teacher.scheme)


def certainty_words(certainty: Certainty | None) -> str | None:
    """How sure a layout is that no table of names gave; None where one did."""
    if certainty is None:
        return None
    return (
        "no naming scheme explains its tensors; its layout is inferred from shapes and order, "
        f"{certainty.words} ({certainty.number:g}): {'; '.join(certainty.reasons)}"
    )


def check_classes(architecture: Architecture, session: Session, path: Source, *, teaches: bool = True) -> None:
    """Raise :class:`UsageError` where the network in ``path`` has not as many classes as the data."""
    classes = session.num_classes
    if architecture.num_classes != classes:
        raise UsageError(
            f"{path} tells {architecture.num_classes} classes apart, but {session.recipe.data.dataset} has {classes}",
            f"Use a teacher of the same classes. It can still be init.source, with {untaught(session.recipe)}."
            if teaches
            else "Measure it on images of its own classes.",
        )


def require_teacher(session: Session, path: Path) -> None:
    """Raise :class:`MissingInputError` where the teacher that a loss reads is not there."""
    words = f"Run `idsnn teacher` first, name one with --teacher FILE, or set {untaught(session.recipe)}."
    require(path, "the teacher", words)


def untaught(recipe: Recipe) -> str:
    """The overrides with which no loss reads a teacher."""
    words = [loss.off("pretrain") for loss in recipe.pretrain.teaching if recipe.pretrain.taught]
    words += [loss.off("distill") for loss in recipe.distill.teaching]
    return " and ".join(words) or "distill.alpha=0"


def check_features(session: Session, student: Architecture, teacher: Architecture) -> None:
    """Raise :class:`UsageError` where a term of the loss cannot compare the two networks' stages."""
    term = next((loss for loss in session.recipe.distill.teaching if loss.reads == "maps"), None)
    if term is None:
        return
    on, off = term.on("distill"), term.off("distill")
    if len(teacher.depths) != len(student.depths):
        raise UsageError(
            f"{on} compares stage by stage, but the teacher has {len(teacher.depths)} stages "
            f"and the student {len(student.depths)}",
            f"Use a teacher with as many stages, or {off}.",
        )
    planned = None if session.has_data else plan_data(session.recipe.data).image_size
    height, width = planned or session.data.image_size
    ours, theirs = (stage_sizes(each, height, width) for each in (student, teacher))
    if ours != theirs:
        sizes = [", ".join(f"{rows}x{columns}" for rows, columns in each) for each in (theirs, ours)]
        raise UsageError(
            f"{on} compares maps of equal size, but those behind the teacher's stages are "
            f"{sizes[0]}, and the student's {sizes[1]}",
            f"Give the student the teacher's stem (student.stem, student.stem_padding), or use {off}.",
        )


def require(path: Source, what: str, fix: str) -> None:
    """Raise :class:`MissingInputError` where there is no such file; what is published need not be here yet."""
    if isinstance(path, Path) and not path.exists():
        raise MissingInputError(f"{path}, {what}, is not there", fix)


def destination(session: Session, step: Step, output: Path | None) -> Path:
    """Where ``step`` writes its checkpoint. Raises :class:`WriteError` where ``output`` can be no file, before hours
    of training find out.
    """
    if output is None:
        return session.file(step)
    check_output(output, force=True)  # a step's own record says whether it may be replaced
    return output


def distinct(target: Path, source: Source) -> None:
    """A step must not read what it is about to replace: its own output, or the best epoch's beside it."""
    if isinstance(source, Path) and os.path.realpath(source) in (
        os.path.realpath(target),
        os.path.realpath(best_of(target)),
    ):
        raise UsageError(f"{source} would be read and replaced by the same step", "Copy it to another name first.")


def read_start(start: Path, architecture: Architecture) -> tuple[Plan | None, dict[str, Any]]:
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
    plan = Plan.from_dict(metadata["mapping"]) if "mapping" in metadata else None
    return plan, dict(metadata.get("provenance", {}))


def foreign_normalisation(recipe: Recipe) -> tuple[Triple, Triple] | None:
    """``teacher.normalise`` as (mean, std), None where the recipe does not say.

    Raises :class:`UsageError` for ``auto``, which stands for no values until images were looked at.
    """
    chosen = recipe.teacher.normalise
    if chosen is None:
        return None
    if chosen == "auto":
        raise UsageError(
            "teacher.normalise is auto, but no images were looked at for it", "Name it: teacher.normalise=imagenet."
        )
    return (chosen.mean, chosen.std) if isinstance(chosen, MeanStd) else CONSTANTS[chosen]
