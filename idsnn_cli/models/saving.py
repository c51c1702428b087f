"""A network in memory as a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.models.base import Model
from idsnn_cli.models.building import bare
from idsnn_cli.spiking import LIF

# Attributes of layers that change no result of the network in evaluation mode.
_FREE = frozenset({"training", "momentum", "to_skip", "next", "stepping", "state", "inplace"})


def save(model: Model, path: str | Path) -> None:
    """Write ``model`` to ``path``, whole or not at all, as a checkpoint that says itself what it is.

    :func:`idsnn_cli.load` gives the same network back, every tensor equal in every bit (float32 or float64): its
    description, with T and the neuron's constants, and its input normalisation are in the file. What ``path`` held is
    replaced. Raises :class:`UsageError` for what is no network of idsnn, or has been changed so that its description is
    no longer true; :class:`CheckpointError` for values that are not finite; :class:`WriteError` where it cannot be
    written.
    """
    if not isinstance(model, Model):
        raise UsageError(
            f"what is to be saved is a {type(model).__name__}, no network of idsnn",
            "Give what idsnn_cli.load, or initialize(...).module(), returned.",
        )
    if not isinstance(path, str | Path) or not str(path).strip():
        raise UsageError(f"a network cannot be saved to {path!r}", "Give the path of a file.")
    state = model.state_dict()
    _require_described(model, state)
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(
                f"{name} holds NaN or infinite values, which load would refuse", "Nothing is written."
            )
    kind = "teacher" if model.architecture.kind == "ann" else "student"
    write_checkpoint(Path(path), state, {"architecture": model.architecture.to_dict(), "kind": kind})


def _require_described(model: Model, state: dict[str, torch.Tensor]) -> None:
    """Raise :class:`UsageError` where tensors or neurons are others than the description's."""
    described = model.architecture.tensors()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    differing = sorted(name for name in described.keys() | shapes.keys() if described.get(name) != shapes.get(name))
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UsageError(
            f"the network's tensors are not its description's: {', '.join(differing[:3])}{more}",
            "Take off what was put on it (masks, parametrisations, counters of other tools), then save.",
        )
    types = {value.dtype for value in state.values() if value.is_floating_point()}
    if not types <= {torch.float32} and not types <= {torch.float64}:
        words = ", ".join(sorted(str(each).removeprefix("torch.") for each in types))
        raise UsageError(f"the network's tensors are {words}, and load gives float32 or float64", "Use model.float().")
    for name, module in model.named_modules():
        # Before the layers, for its own words say more.
        if isinstance(module, LIF) and module.neuron != model.architecture.neuron:
            raise UsageError(
                f"the neurons of {name} are {module.neuron}, and the description's are {model.architecture.neuron}",
                "A checkpoint has one neuron for all: give them the description's.",
            )
    _require_layers(model)


def _require_layers(model: Model) -> None:
    """Raise :class:`UsageError` where a layer is another one than the description's, or computes otherwise: no tensor
    tells of a stride, an eps or an activation, and load would make the description's.
    """
    ours, described = dict(model.named_modules()), dict(bare(model.architecture).named_modules())
    for name in {**described, **ours}:
        found, expected = ours.get(name), described.get(name)
        if found is None or expected is None or type(found) is not type(expected):
            kinds = ["none" if each is None else type(each).__name__ for each in (found, expected)]
            what = f"{name} is {kinds[0]}, and the description's is {kinds[1]}"
        else:
            own, theirs = _constants(found), _constants(expected)
            differing = [key for key, value in theirs.items() if own.get(key) != value]
            if not differing:
                continue
            key = differing[0]
            what = f"{key} of {name} is {own.get(key)!r}, and the description's is {theirs[key]!r}"
        raise UsageError(f"the network computes otherwise than its description: {what}", "Give it the description's.")


def _constants(module: nn.Module) -> dict[str, Any]:
    """What a layer computes by, beside its tensors; a momentum and where draws have come to change no result."""
    values = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in _FREE}
    return {key: value for key, value in values.items() if isinstance(value, bool | int | float | str | tuple)}
