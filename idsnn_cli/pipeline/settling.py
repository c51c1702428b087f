"""What a foreign file does not say of itself and training images show: its normalisation, and its option-A zeros."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, get_args

from idsnn_cli.data import DataBundle, calibration_batches
from idsnn_cli.data.channels import CONSTANTS, candidates
from idsnn_cli.data.load import measure
from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.normalisation import NormalisationVerdict, find_normalisation
from idsnn_cli.evaluation.untold import find_form
from idsnn_cli.families import OptionA
from idsnn_cli.models import Model, mean_frame
from idsnn_cli.models.identify import MeanStd
from idsnn_cli.models.loading import assemble
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import MeanStd as RecipeMeanStd
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import OpenedSource

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


class Asked(Protocol):
    """What is asked of a workspace: what the recipe says, the images where there are some, and the file."""

    recipe: Recipe
    data_given: bool

    @property
    def data(self) -> DataBundle: ...

    def open(self, source: Source, *, download: bool = True) -> OpenedSource: ...

    def takes_events_for(self, source: Source) -> bool: ...

    def say_once(self, message: str) -> None: ...


@dataclass
class Settling:
    """What was found of each source, which is looked for once. ``forms`` says where zeros stand in its shortcuts."""

    forms: dict[Source, OptionA] = field(default_factory=dict)
    _normalisations: dict[Source, Settled] = field(default_factory=dict)

    def normalisation(self, workspace: Asked, source: Source) -> Settled:
        """The normalisation to read ``source`` with: the one that ``teacher.normalise`` names or, for ``auto``, the one
        that comes with it or that the training images show, which is told once.

        Raises :class:`UsageError` where ``auto`` has no images to look at, or what they show is not clear, and
        :class:`CheckpointError` where the network cannot tell.
        """
        chosen = workspace.recipe.teacher.normalise
        if chosen != "auto":
            if chosen is None:
                return Settled(None)
            if isinstance(chosen, RecipeMeanStd):
                return Settled((chosen.mean, chosen.std))
            with workspace.open(source, download=False) as opened:
                fits = candidates(opened.architecture.in_channels)
            return Settled(fits.get(chosen, CONSTANTS[chosen]))
        if source in self._normalisations:
            return self._normalisations[source]
        with workspace.open(source, download=False) as opened:
            if opened.normalises_itself:
                return Settled(None)
            if workspace.takes_events_for(source):
                return Settled(None)  # the data's own is taken instead
            if not workspace.data_given:
                raise UsageError(
                    f"{source} does not say how its images were normalised, and finding it needs training images",
                    "Give data.dataset=NAME (and data.path or data.root), or name it: --normalise imagenet.",
                )
        with workspace.open(source) as opened:
            seed = derive_seed(workspace.recipe.seed, "normalise")
            batches = map(mean_frame, calibration_batches(workspace.data.train, _BATCH_SIZE, _BATCHES, seed, "cpu"))
            known = dict(candidates(opened.architecture.in_channels))
            if len(workspace.data.mean) == opened.architecture.in_channels != 3:
                known["measured"] = measure(workspace.data.train.to("cpu").stored)
            verdict = find_normalisation(opened.network, batches, known, source).require_clear(source)
        workspace.say_once(f"{source}: normalised as {verdict.words()}")
        settled = self._normalisations[source] = Settled((verdict.mean, verdict.std), verdict)
        return settled

    def option_a(self, workspace: Asked, source: Source) -> None:
        """Find where ``source`` has the zeros of its option-A shortcuts, if neither it nor the recipe says so.

        The training images show it; without them half before and half behind are assumed, and that is told. Raises
        :class:`UsageError` where what they show is not clear.
        """
        with workspace.open(source, download=False) as opened:
            if not opened.zeros_untold:
                return
            untold = f"{source} does not say where its option-A shortcuts put their zeros"
            if not workspace.data_given or workspace.takes_events_for(source):
                workspace.say_once(
                    f"{untold}; half before and half behind are assumed (--option-a pad-end for all behind)"
                )
                return
        values = self.normalisation(workspace, source).values
        with workspace.open(source) as opened:
            networks: dict[OptionA, Model] = {}
            for form in get_args(OptionA):
                network = replace(opened.network, architecture=opened.network.architecture.changed(shortcut=form))
                anything = candidates(network.architecture.in_channels)
                networks[form] = assemble(network, str(source), values or anything.get("imagenet", anything["none"]))
            seed = derive_seed(workspace.recipe.seed, "option-a")
            batches = calibration_batches(workspace.data.train, _BATCH_SIZE, _BATCHES, seed, "cpu")
            fix = "Say it: --option-a pad (half before, half behind) or pad-end (teacher.option_a in a recipe)."
            verdict = find_form(networks, batches)
            form = verdict.require_clear(untold, fix)
        self.forms[source] = form
        words = {"pad": "half before and half behind", "pad-end": "all behind"}[form]
        listed = ", ".join(f"{name} {value:.4f}" for name, value in verdict.divergences.items())
        workspace.say_once(
            f"{untold}; the statistics of {verdict.norm} on {verdict.images} images show them {words} ({listed}"
            f"; --option-a {form})"
        )
