"""A NIR graph as a ResNet: its description and canonical tensors, from what idsnn wrote or from the graph's shape."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from idsnn_cli.architecture import DECAY_LOGIT, Architecture, Neuron, read_description
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.exchange.drawing import Array
from idsnn_cli.exchange.nir_shape import infer
from idsnn_cli.exchange.nir_writing import EPS, decay_of, draw
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.blocks import PaddedIdentity
from idsnn_cli.text import excerpt

METADATA_KEY = "idsnn"
_AGAIN = "Export it again: idsnn export CKPT -o FILE.nir."
# Constants of neurons hardly take room once they are packed; a file that claims far more than that is made to harm.
_MOST_PACKED, _MOST_BEYOND_FILE = 200, 2_000_000_000


@dataclass(frozen=True, slots=True)
class NirNetwork:
    """A network read from NIR. ``document`` is what idsnn wrote beside it, None of others' files, whose time steps
    nobody knows; ``neuron`` holds the constants that its neurons have.
    """

    architecture: Architecture
    tensors: Mapping[str, Array]
    neuron: Neuron
    document: dict[str, Any] | None
    notes: tuple[str, ...] = field(default=())


def read_graph(path: Path) -> nir.NIRGraph:
    """The graph in a ``.nir`` file. Raises :class:`CheckpointError` for what is none, or is damaged."""
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file or "version" not in file:
                raise CheckpointError(
                    f"{path}: an HDF5 file without a NIR graph, as Keras writes.",
                    "Give a PyTorch checkpoint: save model.state_dict() with torch.save or safetensors.",
                )
            claimed = _claimed(file)
        if claimed > _MOST_PACKED * path.stat().st_size + _MOST_BEYOND_FILE:
            raise CheckpointError(f"{path}: its arrays claim {claimed:,} bytes.", "Download or copy it again.")
        graph = nir.read(path, type_check=False)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        what = "a NIR file" if path.suffix == ".nir" else "an HDF5 file"
        raise CheckpointError(
            f"{path}: {what}, truncated or damaged: {_reason(error)}.",
            "Download or copy it again, or export it again.",
        ) from error
    if not isinstance(graph, nir.NIRGraph):
        raise CheckpointError(f"{path}: its NIR is a single {type(graph).__name__}.", "Give the graph of a network.")
    return graph


def read_network(path: Path) -> NirNetwork:
    """The ResNet (or, where idsnn wrote it, VGG) in a ``.nir`` file.

    A file of idsnn is read by its description, and is what that says: the same graph, node by node, value by value.
    Others are read by their shape: convolutions and neurons in residual blocks, whose kernels are taken as they are.
    BatchNorms, which NIR has none of, add the biases and do nothing else. Raises :class:`CheckpointError` or
    :class:`FamilyError`, naming the file and the node.
    """
    graph = read_graph(path)
    try:
        written = graph.metadata.get(METADATA_KEY)
        if written is None:
            architecture, tensors, neuron = infer(graph)
            words = _constants(architecture, tensors)
            return NirNetwork(architecture, with_norms(architecture, tensors), neuron, None, (words,))
        return _described(graph, written)
    except CheckpointError as error:
        raise type(error)(f"{path}: {' '.join(error.message.split())}", error.fix) from None
    except Exception as error:
        # Values of other kinds than NIR's, where its package does not look at them.
        raise CheckpointError(f"{path}: a damaged NIR file: {_reason(error)}.", _AGAIN) from error


def with_norms(architecture: Architecture, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Canonical tensors whose convolutions have a ``bias``, which BatchNorms that do nothing else add instead."""
    found = dict(tensors)
    for conv in architecture.convolutions():
        bias = found.pop(f"{conv.name}.bias")
        # What they divide by rounds to exactly 1.
        constants = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - EPS}
        for leaf, value in constants.items():
            found[f"{conv.norm}.{leaf}"] = np.full_like(bias, value)
        found[f"{conv.norm}.bias"] = bias
        found[f"{conv.norm}.num_batches_tracked"] = np.array(0)
    return {name: found[name] for name in architecture.tensors() if name in found}


def _constants(architecture: Architecture, tensors: Mapping[str, Array]) -> str:
    neuron = architecture.neuron
    words = f"NIR does not say for how many time steps; its neurons have student.v_threshold={neuron.v_threshold:g} "
    if architecture.learn_decay == "none":
        return f"{words}student.decay={neuron.decay:g}"
    decays = [decay_of(float(value)) for name, value in tensors.items() if name.endswith(f".{DECAY_LOGIT}")]
    return f"{words}and each layer its own decay, {min(decays):.4g} to {max(decays):.4g}"


def _reason(error: Exception) -> str:
    return excerpt(str(error), 120).rstrip(".") or f"{type(error).__name__} in the package that reads it"


def _claimed(file: Any) -> int:
    total = 0

    def add(_: str, item: Any) -> None:
        nonlocal total
        total += item.nbytes if isinstance(item, h5py.Dataset) else 0

    file.visititems(add)
    return total


def _described(graph: nir.NIRGraph, written: Any) -> NirNetwork:
    try:
        document = json.loads(written)
        architecture = read_description(document["architecture"])
        mean, std = (np.array(document["input"][key]) for key in ("mean", "std"))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError("the metadata that idsnn keeps in it is damaged.", _AGAIN) from error
    found: dict[str, Array] = {}
    for conv in architecture.convolutions():
        _take(found, graph, conv.name, nir.Conv2d, conv.shape)
    for layer in architecture.hidden_layers():
        _take(found, graph, layer.name, nir.Affine, layer.shape)
    _take(found, graph, "head", nir.Affine, (architecture.num_classes, architecture.features))
    dtype = found["head.weight"].dtype
    if mean.shape != (architecture.in_channels,) or std.shape != mean.shape:
        raise CheckpointError("its input normalisation is not one value for each channel.", _AGAIN)
    found["input.mean"], found["input.std"] = (each.astype(dtype).reshape(-1, 1, 1) for each in (mean, std))
    if isinstance(architecture, ResNetArchitecture):
        found |= _amplitudes(graph, architecture)
    found |= _decays(document, architecture, dtype)
    tensors = with_norms(architecture, found)
    _require_alike(graph, architecture, tensors)
    notes = ("read from NIR: the BatchNorms are in the kernels, and new ones add the biases alone",)
    return NirNetwork(architecture, tensors, architecture.neuron, document, notes)


def _take(found: dict[str, Array], graph: nir.NIRGraph, name: str, kind: Any, shape: tuple[int, ...]) -> None:
    node = graph.nodes.get(name)
    if not isinstance(node, kind):
        raise CheckpointError(f"the node '{name}' of its description is not there.", _AGAIN)
    weight, bias = np.asarray(node.weight), np.asarray(node.bias)
    if weight.shape != shape or bias.shape != shape[:1]:
        raise CheckpointError(f"'{name}' is {list(weight.shape)}, but its description says {list(shape)}.", _AGAIN)
    found[f"{name}.weight"], found[f"{name}.bias"] = weight, bias


def _amplitudes(graph: nir.NIRGraph, architecture: ResNetArchitecture) -> dict[str, Array]:
    """What kernels of shortcuts without weights hold of folded amplitudes, and those before neurons of their gains."""
    found, tensors = {}, architecture.tensors()

    def take(name: str, node: str, channels: int, before: int = 0) -> None:
        if f"{name}.weight" not in tensors:
            return
        kernel = np.asarray(graph.nodes[node].weight)
        each = kernel[before + np.arange(channels), np.arange(channels), 0, 0]
        one = architecture.amplitude == "folded-layer"
        if one and not (each == each[0]).all():
            raise CheckpointError(f"'{node}' multiplies channels by several numbers, its description by one.", _AGAIN)
        found[f"{name}.weight"] = each[:1] if one else each

    for stage, block in architecture.blocks():
        at, part = f"stages.{stage}.{block}", architecture.shortcut_part
        entry = architecture.block_input(stage, block)
        before = part.before(architecture.stage_channels(stage) - entry) if isinstance(part, PaddedIdentity) else 0
        take(f"{at}.shortcut.amplitude", f"{at}.shortcut", entry, before)
        take(f"{at}.gain", f"{at}.gain", entry)
    take("final_gain", "final_gain", architecture.features)
    return found


def _decays(document: Mapping[str, Any], architecture: Architecture, dtype: Any) -> dict[str, Array]:
    """The logits of learnt decays, which the description keeps beside the graph; that has to have the decays."""
    if architecture.learn_decay == "none":
        return {}
    logits, layers = document.get("decay_logits"), architecture.neuron_layers()
    if not isinstance(logits, dict) or logits.keys() != layers.keys():
        raise CheckpointError("its learnt decays are not one for each layer of neurons.", _AGAIN)
    if not all(isinstance(value, float) and math.isfinite(value) for value in logits.values()):
        raise CheckpointError("one of its learnt decays is no number.", _AGAIN)
    return {f"{act}.{DECAY_LOGIT}": np.array(logits[act], dtype=dtype) for act in layers}


def _require_alike(graph: nir.NIRGraph, architecture: Architecture, tensors: Mapping[str, Array]) -> None:
    """Raise :class:`CheckpointError` where a graph is not the one that its description and tensors make."""
    inputs = [node for node in graph.nodes.values() if isinstance(node, nir.Input)]
    size = np.asarray(inputs[0].input_type["input"]).tolist() if len(inputs) == 1 else []
    if len(size) != 3:
        raise CheckpointError("it has no input of channels, height and width.", _AGAIN)
    try:
        expected = draw(architecture, tensors, (int(size[1]), int(size[2])), {})
    except UsageError as error:
        raise CheckpointError(f"its description is of no network that NIR can say: {error.message}.", _AGAIN) from None
    odd = expected.nodes.keys() ^ graph.nodes.keys()
    different = sorted(odd) or [name for name in expected.nodes if not _alike(expected.nodes[name], graph.nodes[name])]
    if different:
        raise CheckpointError(f"its node '{different[0]}' is not what its description says.", _AGAIN)
    if set(map(tuple, graph.edges)) != set(expected.edges):
        raise CheckpointError("its edges are not those of its description.", _AGAIN)


def _alike(node: Any, other: Any) -> bool:
    """Whether two nodes are of one kind and hold the same values."""
    if type(node) is not type(other):
        return False
    first, second = (each.to_dict() for each in (node, other))
    keys = (first.keys() | second.keys()) - {"metadata", "type"}
    return all(np.array_equal(np.asarray(first.get(key)), np.asarray(second.get(key))) for key in keys)
