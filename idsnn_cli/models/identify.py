"""Which network a file or a state dict holds: the one place that decides, for the initializer, loading and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture, Neuron, read_description
from idsnn_cli.checkpoint import CheckpointFile
from idsnn_cli.checkpoint.arrays import refuse_odd
from idsnn_cli.errors import CheckpointError, FamilyError, UsageError
from idsnn_cli.families import (
    BOTTLENECK_STRIDE,
    INPUT_NORMALISATION,
    Certainty,
    Copy,
    Neurons,
    Reading,
    Recognised,
    as_ours,
    recognise,
)
from idsnn_cli.families.folded_norms import recognise_unfolded
from idsnn_cli.families.folding import recognise_biased
from idsnn_cli.families.words import grouped
from idsnn_cli.models.folded import less_biases, with_norms
from idsnn_cli.models.kinds import require_neuron, settle_kind, told_beside
from idsnn_cli.models.layers_told import check_layers
from idsnn_cli.models.normalisers import carried, normaliser_keys
from idsnn_cli.models.reparametrised import computed, require_known_forms
from idsnn_cli.models.settings_told import check_settings, told_stride

OWN_SCHEME = "idsnn"
# The first words of the names of our networks' tensors.
_PARTS = ("input", "stem", "stages", "hidden", "head", "final_norm", "final_gain", "final_act")
Shape = tuple[int, ...]
Read = Callable[[str], Tensor]
MeanStd = tuple[Sequence[float], Sequence[float]]
_PACKED = tuple(getattr(torch, name) for name in ("float4_e2m1fn_x2",) if hasattr(torch, name))


@dataclass(frozen=True, slots=True)
class Network:
    """A ResNet whose tensors are not read yet.

    ``names`` leads from canonical names, in network order, to the source's own keys, and ``read`` gives the tensor of
    such a key. ``dropped`` leads from every other key to the reason why it is none of the network's; ``unknown`` lists
    what a foreign file's names cannot tell. ``described`` says that the description came with the tensors, instead of
    being inferred from their names and shapes. ``copy`` is the kind of weights that is taken, of all ``copies`` that
    the file has. ``normalisation`` is its input's (mean, std) where that is known although no tensor holds it. Without
    a head ``architecture`` says one class, which means nothing, and ``ending`` what there is instead of a linear layer.
    ``certainty`` says how sure the layout is where no table of names gave it; ``where`` names the source in errors.
    ``neurons`` says whether a foreign file tells that the network spikes, and ``decays`` lead from canonical names to
    the keys of the decays that its neurons learnt, which it runs without; ``read`` gives them as ours. ``told_neuron``
    is the neuron itself, where a foreign file tells it. ``notes`` say what else was chosen in reading it, and ``parts``
    which keys of the file a tensor is computed from. ``normalised_by`` are the keys of a normalisation that a foreign
    file holds.
    """

    architecture: Architecture
    names: Mapping[str, str]
    scheme: str
    dropped: Mapping[str, str]
    unknown: tuple[str, ...]
    has_head: bool
    described: bool
    read: Read
    copy: Copy = "raw"
    copies: tuple[Copy, ...] = ("raw",)
    normalisation: MeanStd | None = None
    ending: str = ""
    certainty: Certainty | None = None
    where: str = "the source"
    neurons: Neurons = "unsaid"
    decays: Mapping[str, str] = field(default_factory=dict)
    told_neuron: Neuron | None = None
    notes: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    normalised_by: tuple[str, ...] = ()

    @property
    def all_names(self) -> dict[str, str]:
        """What a student can start from: ``names``, and the learnt decays that the network itself runs without."""
        return {**self.names, **self.decays}

    @property
    def carries_normalisation(self) -> bool:
        """Whether tensors of the file say how its images are normalised, so that nobody else may."""
        return "input.mean" in self.names or bool(self.normalised_by)

    @property
    def choice(self) -> str | None:
        """What was chosen in reading it, in words; None where there was no choice."""
        return "; ".join((*self._copy_words(), *self.notes)) or None

    def _copy_words(self) -> tuple[str, ...]:
        if len(self.copies) < 2:
            return ()
        taken, other = ("averaged", "raw") if self.copy == "ema" else ("raw", "ema")
        return (
            f"it holds raw and averaged (EMA) weights; the {taken} ones are taken (--weights {other} for the others)",
        )


def floating(key: str, value: Tensor) -> Tensor:
    """``value``, the tensor of ``key``. Raises :class:`CheckpointError` where it cannot be a weight or a statistic."""
    if not value.is_floating_point() or value.dtype in _PACKED:
        raise CheckpointError(
            f"{key} holds {str(value.dtype).removeprefix('torch.')} values, which are no weights to compute with",
            "Give the network in floating point; one that was quantised has to be dequantised first.",
        )
    return value


def identify(file: CheckpointFile, reading: Reading | None = None) -> Network:
    """The network in ``file``, by the description that our own checkpoints carry or else by names and shapes.

    ``reading`` says what to do where a foreign file leaves a choice. Raises :class:`FamilyError` where it is no ResNet
    and :class:`CheckpointError` where description and tensors disagree, both naming the file; :class:`UsageError` where
    ``reading`` asks for a choice that one of ours does not leave.
    """
    described, where = described_in(file.metadata), str(file.path)
    spikes = told_beside({**file.others, **({} if file.metadata is None else file.metadata)})
    try:
        found = identify_tensors(
            file.shapes(), file.get, described=described, where=where, reading=reading, told=spikes
        )
    except FamilyError:
        refuse_odd(file.path, file.others)  # what is missing may stand in a form that is not read
        raise
    if not found.described:
        check_settings(file.others, where)
    architecture, told = check_layers(file.others, found.names, found.architecture, where)
    stride = None if found.described or BOTTLENECK_STRIDE not in found.unknown else told_stride(file.others)
    if stride is not None and not told:
        architecture, told = architecture.striding(stride, where), True
    if file.told_neuron is not None:
        require_neuron(architecture, file.told_neuron, where)
    return replace(
        found,
        architecture=architecture,
        unknown=tuple(each for each in found.unknown if not told or each != BOTTLENECK_STRIDE),
        normalisation=found.normalisation or file.normalisation,
        where=where,
        notes=(*file.notes, *found.notes),
        told_neuron=file.told_neuron,
    )


def described_in(metadata: Mapping[str, Any] | None) -> Architecture | None:
    """The description in a checkpoint's metadata; None where there is none. Raises :class:`CheckpointError`."""
    if metadata is None or "architecture" not in metadata:
        return None
    return read_description(metadata["architecture"])


def refuse_reading(where: str) -> NoReturn:
    """Raise :class:`UsageError`: ``where`` is one of ours, of which nothing is to be chosen."""
    raise UsageError(
        f"{where} is idsnn's own: it holds one copy of the weights, and nothing in it is unexplained",
        "Leave --kind, --weights, --allow-unused, --scheme, --root and --levels out.",
    )


def identify_tensors(
    shapes: Mapping[str, Shape],
    read: Read,
    *,
    described: Architecture | None = None,
    where: str = "the source",
    reading: Reading | None = None,
    told: bool = False,
) -> Network:
    """The network whose tensors have these names and ``shapes``; ``where`` is for an error's words.

    ``told`` says that something beside the tensors tells that a foreign network spikes.
    """
    if described is not None:
        if reading is not None and reading != Reading():
            refuse_reading(where)
        return _own(described, shapes, read, where)
    stored = computed(shapes, read)
    read, reading = stored.read, reading or Reading()
    pairs = normaliser_keys(stored.shapes)
    beside = {key for pair in pairs for key in pair}
    within = {key: shape for key, shape in stored.shapes.items() if key not in beside}
    try:
        found, read, made = _recognised(within, read, reading)
        require_known_forms(found.names.values(), within)
    except FamilyError as error:
        raise FamilyError(f"{where}: {error.message}", error.fix) from None
    read = as_ours(read, found.decays)
    if told:
        found = replace(found, neurons="told")
    found = settle_kind(found, read, reading, where)
    given = carried(pairs, stored.shapes, read, found.architecture.in_channels, reading.root or "", where)
    return Network(
        architecture=found.architecture,
        names=found.names,
        scheme=found.scheme,
        dropped={**found.dropped, **dict.fromkeys(sorted(beside), "how images are normalised")},
        unknown=tuple(each for each in found.unknown if given is None or each != INPUT_NORMALISATION),
        has_head=found.has_head,
        described=False,
        read=read,
        copy=found.copy,
        copies=found.copies,
        ending=found.ending,
        certainty=found.certainty,
        neurons=found.neurons,
        decays=found.decays,
        notes=(*found.notes, *stored.words, *([] if given is None else [given.note])),
        parts={**stored.parts, **made},
        normalisation=None if given is None else (given.mean, given.std),
        normalised_by=() if given is None else given.keys,
    )


def _recognised(
    shapes: Mapping[str, Shape], read: Read, reading: Reading
) -> tuple[Recognised, Read, dict[str, tuple[str, ...]]]:
    """The network, what reads its tensors, and the keys of the file that those are computed from which it lacks."""

    def alike(key: str, other: str) -> bool:
        return _alike(read(key), read(other))

    try:
        return recognise(shapes, reading, alike), read, {}
    except FamilyError as refusal:
        unfolded = recognise_unfolded(shapes, reading, alike)
        if unfolded is None:
            found, biases = recognise_biased(shapes, reading, alike, refusal)
            return found, less_biases(read, biases), {}
    parts: dict[str, tuple[str, ...]] = {key: (bias,) for key, (_, bias) in unfolded.made.items()}
    return unfolded.found, with_norms(read, unfolded.made), parts


def _alike(value: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values; False of a file that is not on this machine."""
    return not (value.is_meta or other.is_meta) and torch.equal(value, other)


def _own(architecture: Architecture, shapes: Mapping[str, Shape], read: Read, where: str) -> Network:
    expected = architecture.tensors()
    for name, shape in expected.items():
        # Axes of one are no other shape: some libraries store a linear layer as a 1x1 convolution.
        if name in shapes and [n for n in shapes[name] if n > 1] != [n for n in shape if n > 1]:
            raise CheckpointError(
                f"{where}: {name} is {list(shapes[name])}, but its architecture says {list(shape)}",
                "Make the checkpoint again: its metadata and tensors disagree.",
            )
    names = {name: name for name in expected if name in shapes}
    others = sorted(shapes.keys() - expected.keys())
    # What stands within the network's parts would have a part in what it computes.
    within = [name for name in others if name.partition(".")[0] in _PARTS]
    if within:
        raise CheckpointError(
            f"{where} holds {grouped(within, 4)}, of which its architecture says nothing",
            "Make the checkpoint again: its metadata and tensors disagree.",
        )
    dropped = dict.fromkeys(others, "the architecture has no such tensor")
    return Network(architecture, names, OWN_SCHEME, dropped, (), "head.weight" in names, True, read)
