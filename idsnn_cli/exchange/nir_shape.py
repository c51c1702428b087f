"""A ResNet recognised in a graph of convolutions and neurons by its edges alone, whatever its nodes are called."""

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np

from idsnn_cli.architecture import DECAY_LOGIT, LEAST_LEARNT_DECAY, Convolution, LearnDecay, Neuron
from idsnn_cli.errors import FamilyError, UsageError
from idsnn_cli.exchange.drawing import DT, Array
from idsnn_cli.exchange.interpreter import NEURONS, sources_of
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

_FIX = "Known are residual networks of basic or bottleneck blocks: convolutions, neurons, a mean, a linear layer."
_MOST = 20_000  # nodes


class _Walk:
    """A graph on the way from its input to its output."""

    def __init__(self, graph: nir.NIRGraph) -> None:
        if len(graph.nodes) > _MOST:
            raise FamilyError(f"the graph has {len(graph.nodes):,} nodes", _FIX)
        self.nodes = graph.nodes
        self.sources = sources_of(graph)
        self.targets: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, sources in self.sources.items():
            for source in sources:
                self.targets[source].append(name)

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def fires(self, name: str) -> bool:
        return self.kind(name) in NEURONS

    def next(self, name: str, *kinds: str) -> str:
        """The one node behind ``name``, of one of ``kinds``."""
        behind = self.targets[name]
        if len(behind) != 1 or self.kind(behind[0]) not in kinds:
            found = ", ".join(f"{self.kind(each)} '{each}'" for each in behind) or "nothing"
            raise FamilyError(f"behind '{name}' stands {found}, where a ResNet has one {' or '.join(kinds)}", _FIX)
        return behind[0]


def infer(graph: nir.NIRGraph) -> tuple[ResNetArchitecture, dict[str, Array], Neuron]:
    """The description (of one time step, for NIR says none), kernels and biases by canonical names, and the neuron.

    Raises :class:`FamilyError` where the graph is no ResNet of ``spiking`` blocks, or its neurons are not ours.
    """
    walk = _Walk(graph)
    inputs = [name for name in walk.nodes if walk.kind(name) == "Input"]
    if len(inputs) != 1:
        raise FamilyError(f"the graph has {len(inputs)} inputs", _FIX)
    stem = walk.next(inputs[0], "Conv2d")
    stream = walk.next(stem, *NEURONS)
    blocks: list[tuple[list[str], str | None]] = []
    while any(walk.kind(each) == "Conv2d" for each in walk.targets[stream]):
        path, projection, stream = _block(walk, stream)
        blocks.append((path, projection))
    head = _head(walk, stream)
    decays, threshold = _neurons(walk)
    each = len(set(decays.values())) > 1
    mean = min(max(sum(decays.values()) / len(decays), LEAST_LEARNT_DECAY), 1 - LEAST_LEARNT_DECAY)
    neuron = Neuron(threshold, mean if each else next(iter(decays.values())))
    architecture = _architecture(walk, stem, blocks, head, neuron, "layer" if each else "none")
    tensors = _tensors(walk, architecture, stem, blocks, head)
    if each:
        tensors |= _logits(walk, architecture, stem, blocks, decays)
    return architecture, tensors, neuron


def _block(walk: _Walk, stream: str) -> tuple[list[str], str | None, str]:
    """The convolutions of the block behind ``stream``, its projection, and the neurons of its sum."""
    behind = walk.targets[stream]
    convs, direct = ([each for each in behind if test(each)] for test in (lambda n: not walk.fires(n), walk.fires))
    if any(walk.kind(each) != "Conv2d" for each in convs):
        raise FamilyError(f"behind '{stream}' stands more than a block's convolutions and its sum", _FIX)
    sums = [each for each in convs if len(walk.sources[walk.next(each, *NEURONS)]) == 2]
    if (len(convs), len(direct), len(sums)) == (1, 1, 0):
        projection, join = None, direct[0]
    elif (len(convs), len(direct), len(sums)) == (2, 0, 1):
        projection, join = sums[0], walk.next(sums[0], *NEURONS)
    else:
        raise FamilyError(f"behind '{stream}' no residual block begins ({len(behind)} nodes read it)", _FIX)
    path = [each for each in convs if each != projection]
    while (neurons := walk.next(path[-1], *NEURONS)) != join:
        if len(walk.sources[neurons]) != 1 or len(path) == 3:
            raise FamilyError(f"the block behind '{stream}' does not end in the sum with its shortcut", _FIX)
        path.append(walk.next(neurons, "Conv2d"))
    if len(walk.sources[join]) != 2 or len(path) == 1:
        raise FamilyError(f"the block behind '{stream}' has {len(path)} convolutions", _FIX)
    return path, projection, join


def _head(walk: _Walk, stream: str) -> str:
    """The last affine layer, behind the mean over all pixels."""
    pool = walk.next(stream, "AvgPool2d")
    behind = walk.next(pool, "Flatten", "Affine")
    head = walk.next(behind, "Affine") if walk.kind(behind) == "Flatten" else behind
    walk.next(head, "Output")
    return head


def _neurons(walk: _Walk) -> tuple[dict[str, float], float]:
    """The decay of each layer of neurons, and the threshold of all, as ours: a gain of the input is taken into it."""
    decays: dict[str, float] = {}
    thresholds = set()
    for name in walk.nodes:
        if not walk.fires(name):
            continue
        node = walk.nodes[name]
        values = {key: _uniform(name, key, value) for key, value in vars(node).items() if key in _CONSTANTS}
        if values["v_reset"] != 0 or values.get("v_leak", 0) != 0:
            raise FamilyError(f"the neurons of '{name}' are reset, or leak, to another potential than 0", _FIX)
        share = DT / values["tau"] if "tau" in values else None
        decay = 1.0 if share is None else float(1 - share)
        gain = float((DT if share is None else share) * values["r"])
        # IF of snnTorch's way of writing it has no seconds.
        gain = 1.0 if abs(gain - 1) < 1e-5 or (share is None and values["r"] == 1) else gain
        decays[name] = decay
        thresholds.add(float(values["v_threshold"] / gain))
    if len(thresholds) != 1:
        raise FamilyError(f"its layers of neurons have {len(thresholds)} thresholds, and a network here has one", _FIX)
    return decays, thresholds.pop()


def _logits(
    walk: _Walk,
    architecture: ResNetArchitecture,
    stem: str,
    blocks: list[tuple[list[str], str | None]],
    decays: dict[str, float],
) -> dict[str, Array]:
    """The tensors of decays that differ from layer to layer."""
    found = {}
    paths = [("stem.act", stem)]
    for (stage, block), (path, _) in zip(architecture.blocks(), blocks, strict=True):
        paths += [(f"stages.{stage}.{block}.act{i}", conv) for i, conv in enumerate(path)]
    for act, conv in paths:
        name = walk.next(conv, *NEURONS)
        decay = decays[name]
        if not 0 < decay < 1:
            raise FamilyError(
                f"the neurons of '{name}' have decay {decay:g} and others another; decays that differ are learnt ones, "
                "between 0 and 1",
                _FIX,
            )
        found[f"{act}.{DECAY_LOGIT}"] = np.array(math.log(decay / (1 - decay)))
    return found


_CONSTANTS = ("tau", "r", "v_leak", "v_threshold", "v_reset")


def _uniform(name: str, key: str, value: Any) -> Any:
    values = np.unique(np.asarray(value))
    if values.size != 1:
        raise FamilyError(f"the neurons of '{name}' have {values.size} values of {key}, and a layer here has one", _FIX)
    return values[0]


def _architecture(
    walk: _Walk,
    stem: str,
    blocks: list[tuple[list[str], str | None]],
    head: str,
    neuron: Neuron,
    learn_decay: LearnDecay,
) -> ResNetArchitecture:
    depths: list[int] = []
    widths: list[int] = []
    length = {len(path) for path, _ in blocks}
    if len(length) != 1:
        raise FamilyError(f"its blocks have {' and '.join(map(str, sorted(length))) or 'no'} convolutions", _FIX)
    expansion = 1 if length == {2} else 4
    for path, _ in blocks:
        strides = {_square(walk.nodes[each].stride) for each in path}
        if not depths or strides != {1}:
            depths.append(0)
            widths.append(len(walk.nodes[path[-1]].weight) // expansion)
        depths[-1] += 1
    node = walk.nodes[stem]
    if _square(node.padding) != 1:
        raise FamilyError(f"its first convolution, '{stem}', is padded by {_square(node.padding)}", "Known is 1.")
    try:
        return ResNetArchitecture.of(
            kind="spiking",
            block="basic" if expansion == 1 else "bottleneck",
            depths=tuple(depths),
            widths=tuple(widths),
            num_classes=len(walk.nodes[head].weight),
            in_channels=int(np.asarray(node.weight).shape[1]),
            neuron=neuron,
            learn_decay=learn_decay,
        )
    except UsageError as error:
        raise FamilyError(f"it is no ResNet that can be built: {error.message}", error.fix) from None


def _square(value: Any) -> int:
    values = np.unique(np.asarray(value))
    if values.size != 1 or values.dtype.kind not in "iu":
        raise FamilyError(f"a convolution has a stride or padding of {np.asarray(value).tolist()}", _FIX)
    return int(values[0])


def _tensors(
    walk: _Walk, architecture: ResNetArchitecture, stem: str, blocks: list[tuple[list[str], str | None]], head: str
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    _convolution(walk, found, architecture.stem_convolution(), stem)
    for at, (path, projection) in zip(architecture.blocks(), blocks, strict=True):
        for conv, name in zip(architecture.block_convolutions(*at), path, strict=True):
            _convolution(walk, found, conv, name)
        expected = architecture.shortcut_convolution(*at)
        if (expected is None) is not (projection is None):
            raise FamilyError(f"the block of '{path[0]}' has {'a' if projection else 'no'} projection", _FIX)
        if expected is not None and projection is not None:
            _convolution(walk, found, expected, projection)
    node = walk.nodes[head]
    weight, bias = np.asarray(node.weight), np.asarray(node.bias)
    if weight.shape != (architecture.num_classes, architecture.features) or bias.shape != weight.shape[:1]:
        raise FamilyError(f"'{head}' is {list(weight.shape)}, and reads {architecture.features} channels", _FIX)
    return {**found, "head.weight": weight, "head.bias": bias}


def _convolution(walk: _Walk, found: dict[str, Array], plan: Convolution, name: str) -> None:
    node = walk.nodes[name]
    weight, bias = np.asarray(node.weight), np.asarray(node.bias)
    told = (weight.shape, _square(node.stride), _square(node.padding), int(node.groups), _square(node.dilation))
    expected = (plan.shape, plan.stride, plan.padding, plan.groups, 1)
    if told != expected or bias.shape != (plan.out_channels,):
        raise FamilyError(
            f"'{name}' has (shape, stride, padding, groups, dilation) {told}, where {plan.name} has {expected}",
            _FIX,
        )
    found[f"{plan.name}.weight"], found[f"{plan.name}.bias"] = weight, bias
