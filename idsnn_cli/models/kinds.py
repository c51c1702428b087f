"""Whether a foreign file's network spikes: what the file tells, what a caller has to say, and how it is read then."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from idsnn_cli.architecture import DECAY_LOGIT, LEAST_LEARNT_DECAY, Architecture, Neuron
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.families import NEURONS, Neurons, Reading, Recognised, SpikingReading
from idsnn_cli.spiking import decay_of

Read = Callable[[str], Tensor]

# Keys of settings beside the weights that only spiking networks have, and words in the values of others.
_KEYS = (
    *("timesteps", "time_steps", "timestep", "time_step", "v_threshold", "v_reset", "vth", "decay_input"),
    *("neuron_type", "node_type", "spiking_neuron", "surrogate_function"),
)
_WORDS = ("spiking", "sew_resnet", "sewresnet", "snn", "lifnode", "ifnode")
# What our own metadata call a network that spikes; without its description only that is known of it.
_OURS = ("student", "init", "baseline")
# What the constants of neurons that have one decay may differ by: what float32 rounds.
_ROUNDED = 1e-6
GIVE_CONSTANTS = (
    "For a spiking network give --kind spiking student.timesteps=T student.v_threshold=THETA student.decay=D (or "
    "student.tau), and what is unusual of student.reset, start, block, join, coding and stem_padding; in Python "
    "kind='spiking', "
    "spiking=SpikingReading(T, Neuron(THETA, D))."
)


def told_beside(others: Mapping[str, Any]) -> bool:
    """Whether what stands in a file beside its tensors tells that the network spikes, by dotted names and values."""
    for name, value in others.items():
        if name.rpartition(".")[2].lower() in _KEYS and value not in (None, False, "", 0):
            return True
        if name == "kind" and value in _OURS:
            return True
        if isinstance(value, str) and len(value) < 200 and any(word in value.lower() for word in _WORDS):
            return True
    return False


def settle_kind(found: Recognised, read: Read, reading: Reading, where: str) -> Recognised:
    """What was ``found`` in a foreign file as what ``reading`` says that it is; ``read`` gives a tensor of the file.

    Raises :class:`UsageError` where that speaks against the file, or leaves out what the file does not tell.
    """
    if reading.kind == "auto":
        asked = found.neurons == "asked" and can_spike(found.architecture)
        return found if asked or found.neurons == "told" else replace(found, neurons="unsaid")
    if reading.kind == "ann":
        if found.neurons == "told":
            raise UsageError(f"{where} is a spiking network by what the file says, not an ANN", GIVE_CONSTANTS)
        return _settled(found, found.architecture)
    if reading.spiking is None:
        raise UsageError(f"{where}: --kind spiking leaves out T and the neurons' constants", GIVE_CONSTANTS)
    learnt = learnt_decays(found.decays, read)
    settled = _settled(found, _spiking(found.architecture, learnt, reading.spiking, where))
    return settled if settled.architecture.learn_decay == "none" else _with_decays(settled, found.decays, where)


def can_spike(architecture: Architecture) -> bool:
    """Whether a spiking network of that shape can be described: those of attention, for one, are ANNs."""
    try:
        architecture.changed(kind="spiking", timesteps=1, neuron=Neuron(), spiking_block="spiking", join="add")
    except UsageError:
        return False
    return True


def require_kind(neurons: Neurons, learnt: Mapping[str, float], where: str, told: Neuron | None = None) -> None:
    """Raise :class:`UsageError` where a network is to run, and neither its file nor anyone said whether it spikes.

    ``neurons`` says what the file tells, ``learnt`` are the decays in it, and ``told`` is its whole neuron.
    """
    if neurons == "unsaid":
        return
    if told is not None:
        decay, rest = ("", ", decay=False") if learnt else (f" student.decay={told.decay!r}", "")
        python = f"Neuron({told.v_threshold!r})" if learnt else f"Neuron({told.v_threshold!r}, {told.decay!r})"
        raise UsageError(
            f"{where} is a spiking network, and the file does not tell for how many time steps it runs",
            f"Give --kind spiking student.timesteps=T student.v_threshold={told.v_threshold!r}{decay}, which its "
            f"neurons have; in Python kind='spiking', spiking=SpikingReading(T, {python}{rest}).",
        )
    if neurons == "told":
        raise UsageError(
            f"{where} is a spiking network, and the file tells neither its time steps nor its neurons' constants"
            f"{_learnt_words(learnt)}",
            GIVE_CONSTANTS,
        )
    raise UsageError(
        f"{where} has idsnn's own names but no description, so it does not tell whether it spikes, nor T and the "
        "neurons' constants",
        "Give the .safetensors file that idsnn wrote (in Python idsnn_cli.save writes one). For an ANN give "
        f"--kind ann (teacher.kind=ann, in Python kind='ann'). {GIVE_CONSTANTS}",
    )


def require_neuron(architecture: Architecture, told: Neuron, where: str) -> None:
    """Raise :class:`UsageError` where a spiking network is read with other constants than its file has."""
    if architecture.spiking is None:
        return
    given = architecture.neuron
    decay = told.decay if architecture.learn_decay == "layer" else given.decay  # of layers, the file's own
    if (given.v_threshold, decay, given.reset, given.start) != (told.v_threshold, told.decay, "hard", "zero"):
        raise UsageError(
            f"{where} says itself that its neurons have threshold {told.v_threshold!r}, decay {told.decay!r}, a hard "
            "reset and a start at zero",
            f"Give student.v_threshold={told.v_threshold!r} student.decay={told.decay!r}, and no other constants.",
        )


def learnt_decays(decays: Mapping[str, str], read: Read) -> dict[str, float]:
    """The decays by key, of logits as ``read`` gives them: a step of SpikingJelly's PLIF leaves 1 - 1/tau of the
    membrane, 1/tau = sigmoid(w), so that its logit is -w. Raises :class:`CheckpointError` for more than one value.
    """
    found = {}
    for key in decays.values():
        value = read(key)
        if value.numel() != 1:
            raise CheckpointError(
                f"{key} is {list(value.shape)}, and a layer of neurons learns one decay", "Use another checkpoint."
            )
        found[key] = decay_of(value.reshape(()))
    return found


def _settled(found: Recognised, architecture: Architecture) -> Recognised:
    unknown = tuple(each for each in found.unknown if each != NEURONS)
    return replace(found, architecture=architecture, unknown=unknown, neurons="unsaid", decays={})


def _with_decays(found: Recognised, decays: Mapping[str, str], where: str) -> Recognised:
    """``found`` with the tensors of its learnt decays. Raises :class:`UsageError` where they are not one a layer."""
    names, learnt = {**found.names, **decays}, {f"{each}.{DECAY_LOGIT}" for each in found.architecture.neuron_layers()}
    odd = sorted({decays.get(name, name) for name in learnt.symmetric_difference(decays)})
    if odd:
        raise UsageError(
            f"{where} learnt {len(decays)} decays, and a network of {found.architecture.spiking_block} blocks has "
            f"{len(learnt)} layers of neurons: {odd[0]} is of one alone",
            "Give the blocks that it has: student.block. It can start a student: idsnn init --from FILE --arch NAME.",
        )
    return replace(
        found,
        names={name: names[name] for name in found.architecture.tensors() if name in names},
        dropped={key: why for key, why in found.dropped.items() if key not in decays.values()},
    )


def _spiking(
    architecture: Architecture, learnt: Mapping[str, float], given: SpikingReading, where: str
) -> Architecture:
    decay, each = _decay(learnt, given, where)
    traits: dict[str, Any] = {
        "kind": "spiking",
        "timesteps": given.timesteps,
        "neuron": replace(given.neuron, decay=decay),
        "learn_decay": "layer" if each else "none",
        "spiking_block": _block(learnt, given, where),
        "join": given.join,
        "coding": given.coding,
        "amplitude": "one",
    }
    if given.stem_padding is not None:
        traits["stem_padding"] = given.stem_padding
    try:
        return architecture.changed(**traits)
    except UsageError as error:
        raise UsageError(f"{where} as a spiking network: {error.message}", error.fix) from None


def _block(learnt: Mapping[str, float], given: SpikingReading, where: str) -> str:
    """The kind of its blocks: in a SEW block the neuron of a projection has a decay, too, and behind MS blocks one."""
    sew = any(".downsample" in key or ".shortcut_act." in key for key in learnt)
    if sew and given.block in ("spiking", "ms"):
        raise UsageError(
            f"{where} has neurons behind its projections, which blocks of kind {given.block} have not",
            "Give student.block=sew and its student.join.",
        )
    ms = any(key.endswith(f"final_act.{DECAY_LOGIT}") for key in learnt)
    return given.block or ("sew" if sew else "ms" if ms else "spiking")


def _decay(learnt: Mapping[str, float], given: SpikingReading, where: str) -> tuple[float, bool]:
    """The one decay of all neurons, given or learnt (PLIF); or where layers learnt others their mean, and True."""
    if not learnt:
        if not given.decay:
            raise UsageError(
                f"{where} does not tell its neurons' decay",
                "Give it: student.decay=D (or student.tau), without student.learn_decay.",
            )
        return given.neuron.decay, False
    low, high = (choose(learnt, key=learnt.__getitem__) for choose in (min, max))
    broken = [key for key, value in learnt.items() if not math.isfinite(value)]
    if broken:
        raise CheckpointError(f"{where}: {broken[0]} holds NaN, and is a learnt decay", "Use another checkpoint.")
    each = learnt[high] - learnt[low] > _ROUNDED
    if given.decay and (each or abs(given.neuron.decay - learnt[low]) > _ROUNDED):
        shown = f"s (1 - sigmoid(w)) are {learnt[low]:.4g} ({low}) to {learnt[high]:.4g} ({high})"
        raise UsageError(
            f"{where} says itself that its neurons' decay"
            + (shown if each else f" (1 - sigmoid(w)) is {learnt[low]:.6g}")
            + f", not {given.neuron.decay:g}",
            "Leave student.decay (student.tau) out.",
        )
    if not each:
        return learnt[low], False
    return min(max(sum(learnt.values()) / len(learnt), LEAST_LEARNT_DECAY), 1 - LEAST_LEARNT_DECAY), True


def _learnt_words(learnt: Mapping[str, float]) -> str:
    if not learnt:
        return ""
    low, high = min(learnt.values()), max(learnt.values())
    words = f"{low:.4g}" if high - low <= _ROUNDED else f"{low:.4g} to {high:.4g}"
    return (
        f" but for their learnt decay, 1 - sigmoid(w) = {words}. Where inputs decay, too (decay_input, SpikingJelly's "
        "default), the threshold here is theirs / sigmoid(w)"
    )
