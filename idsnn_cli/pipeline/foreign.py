"""What a foreign file leaves open, settled as the recipe's ``teacher`` section says: normalisation and strides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.data import calibration_batches
from idsnn_cli.data.normalise import CONSTANTS
from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.normalisation import NormalisationVerdict, find_normalisation
from idsnn_cli.families import BOTTLENECK_STRIDE
from idsnn_cli.models import Network, ResNet, described_in, identify, load
from idsnn_cli.models.identify import MeanStd
from idsnn_cli.pipeline.inputs import FOREIGN_KEYS, certainty_words, foreign_normalisation, foreign_reading, reading_of
from idsnn_cli.pipeline.session import Session, Step
from idsnn_cli.published import Published, Source
from idsnn_cli.recipe.schema import Teacher
from idsnn_cli.seeding import derive_seed

# 512 images; see evaluation/normalisation.py for what they tell apart.
_BATCHES, _BATCH_SIZE = 4, 128


@dataclass(frozen=True, slots=True)
class Settled:
    """``values`` is the (mean, std) to read a source with, None where it brings its own or none is known; ``verdict``
    says how it was found, where the recipe says ``auto`` and the source does not know.
    """

    values: MeanStd | None
    verdict: NormalisationVerdict | None = None

    def provenance(self) -> dict[str, Any]:
        """What a checkpoint's provenance says of it; empty where nothing was looked for."""
        return {} if self.verdict is None else {"normalisation": self.verdict.to_dict()}


def settle_normalisation(session: Session, source: Source) -> Settled:
    """The normalisation to read ``source`` with: the one that ``teacher.normalise`` names or, for ``auto``, the one
    that comes with it or that the training images show, which is told once.

    Raises :class:`UsageError` where ``auto`` has no images to look at, or what they show is not clear, and
    :class:`CheckpointError` where the network cannot tell.
    """
    if session.recipe.teacher.normalise != "auto":
        return Settled(foreign_normalisation(session.recipe))
    known = session.remembered.get(("normalisation", source))
    if isinstance(known, Settled):
        return known
    with open_checkpoint(source, download=False) as file:
        network = identify(file, reading_of(source, session.recipe))
        if _knows_its_own(network):
            return Settled(None)
        if not session.data_given:
            raise UsageError(
                f"{source} does not say how its images were normalised, and finding it needs training images",
                "Give data.dataset=NAME (and data.path or data.root), or name it: --normalise imagenet.",
            )
        seed = derive_seed(session.recipe.seed, "normalise")
        batches = calibration_batches(session.data.train, _BATCH_SIZE, _BATCHES, seed, "cpu")
        verdict = find_normalisation(network, batches, where=source).require_clear(source)
    session.say_once(f"{source}: normalised as {verdict.words()}")
    settled = session.remembered["normalisation", source] = Settled((verdict.mean, verdict.std), verdict)
    return settled


def load_network(source: Source, session: Session, device: torch.device | str = "cpu", *, look: bool = True) -> ResNet:
    """The network in ``source``, of the session's precision; a foreign one is read as the ``teacher`` section says.

    Without ``look`` nothing is looked for in images: the network's description is right, its normalisation need not be.
    """
    teacher, reading = session.recipe.teacher, foreign_reading(session.recipe)
    with open_checkpoint(source) as file:
        ours = described_in(file.metadata) is not None
        network = None if ours else identify(file, reading)
    if network is None:
        model = load(source, device=device)
    else:
        _tell(session, source, network)
        anything = teacher.normalise == "auto" and not look
        values = None if anything else settle_normalisation(session, source).values
        model = load(
            source,
            device=device,
            normalise=CONSTANTS["none"] if anything and not _knows_its_own(network) else values,
            bottleneck_stride=teacher.bottleneck_stride,
            weights=teacher.weights,
            allow_unused=teacher.allow_unused,
            scheme=reading.scheme,
        )
    return model.to(torch.float64 if session.precision == "fp64" else torch.float32)


def _knows_its_own(network: Network) -> bool:
    return "input.mean" in network.names or network.normalisation is not None


def _tell(session: Session, source: Source, network: Network) -> None:
    if network.choice is not None:
        session.say_once(f"{source}: {network.choice}")
    sure = certainty_words(network.certainty)
    if sure is not None:
        session.say_once(f"{source}: {sure}")
    # torchvision's own are known; in other files the names are the same for both.
    if BOTTLENECK_STRIDE in network.unknown and not isinstance(source, Published):
        given = session.recipe.teacher.bottleneck_stride
        if given is None:
            session.say_once(
                f"{source}: its bottlenecks are taken to stride in the 3x3 convolution, which names cannot tell "
                "(--bottleneck-stride 1x1, teacher.bottleneck_stride=1x1 for the original form)"
            )


def foreign_sources(session: Session, steps: list[Step], given: dict[str, Any]) -> list[Source]:
    """The networks from outside that ``steps`` would read, named by the recipe or on the command line, ours or not."""
    recipe = session.recipe
    named = [given.get("checkpoint"), given.get("teacher")]
    named += [recipe.teacher.checkpoint] if "teacher" in steps else []
    named += [recipe.init.source] if {"pretrain", "init"} & set(steps) and recipe.init.rule != "none" else []
    return [source for source in dict.fromkeys(named) if source is not None]


def refuse_unread_keys(session: Session, steps: list[Step], given: dict[str, Any]) -> None:
    """Raise :class:`UsageError` where ``teacher`` says how to read a foreign file, and neither recipe nor command names
    one.

    What only says ``auto`` asks for nothing, so it may stand anywhere. Steps that measure do not need the keys.
    """
    teacher, plain = session.recipe.teacher, Teacher()
    said = [key for key in FOREIGN_KEYS if getattr(teacher, key) not in (getattr(plain, key), "auto")]
    if not said or session.standalone or not {"teacher", "pretrain", "init", "distill"} & set(steps):
        return
    sources = [*foreign_sources(session, ["teacher", "init"], given)]
    if any(_foreign(source) for source in sources):
        return
    keys = " and ".join(f"teacher.{key}" for key in said)
    found = f"{', '.join(map(str, sources))} carries all that itself" if sources else "this recipe names none"
    hint = " A network that is trained here normalises as data.normalise says." if "normalise" in said else ""
    raise UsageError(
        f"{keys} {'is' if len(said) == 1 else 'are'} for a foreign file, and {found}",
        f"Leave {'it' if len(said) == 1 else 'them'} out, or name the file: teacher.checkpoint=FILE.{hint}",
    )


def _foreign(source: Source) -> bool:
    if isinstance(source, Path) and not source.exists():
        return True  # whoever reads it says that it is not there
    if isinstance(source, Published):
        return True
    with open_checkpoint(source) as file:
        return described_in(file.metadata) is None


def settle_all(session: Session, sources: Iterable[Source]) -> None:
    """Find what ``auto`` stands for in each of ``sources`` now, so that what is not clear stops nothing later."""
    for source in sources:
        if isinstance(source, Published) or source.exists():
            settle_normalisation(session, source)
