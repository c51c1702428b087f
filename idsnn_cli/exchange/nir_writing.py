"""A student as a NIR graph: BatchNorm folded into kernels, residual sums as edges, the input normalisation outside.

What NIR has no node for is written by nodes that give the same spikes where there are such, and refused by name where
there are not: the max-pool of spikes and the products of SEW blocks are sums with a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

from idsnn_cli.architecture import DECAY_LOGIT, Architecture, Convolution
from idsnn_cli.errors import UsageError
from idsnn_cli.exchange.drawing import Array, Drawing, Stream
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.blocks import PaddedIdentity
from idsnn_cli.networks.vgg.architecture import VGGArchitecture

EPS = 1e-5  # of every BatchNorm here
# Of neurons that stand for a product: what is left of a sum of -1, 0, 1 or 2 cannot bring another over a threshold that
# lies between two of these. It is not 0, for which SpikingJelly has no neuron.
FORGETS = 2.0**-10
State = Mapping[str, Array]


def require_sayable(architecture: Architecture, where: object) -> None:
    """Raise :class:`UsageError`, naming what, where the network in ``where`` cannot be said in NIR."""
    if architecture.spiking is None:
        raise UsageError(f"{where} is an ANN, and NIR is for spiking networks", "Give a student, or use --format onnx.")
    neuron = architecture.neuron
    if neuron.reset == "soft":
        raise UsageError(
            f"{where} resets softly, and NIR's neurons are set to a potential by a spike",
            "Use --format onnx, pt2 or spikingjelly, which have the soft reset.",
        )
    if architecture.learn_start != "none":
        raise UsageError(
            f"the neurons of {where} learnt what they start with, and NIR's start at 0", "Use --format onnx or pt2."
        )
    if neuron.start == "half":
        raise UsageError(
            f"the neurons of {where} start at half their threshold, and NIR's start at 0", "Use --format onnx or pt2."
        )
    if architecture.amplitude == "channel":
        raise UsageError(
            f"{where} has learnt spike amplitudes, and NIR's spikes are 1",
            f"Fold them first: idsnn export {where} --format fold -o folded.safetensors, then export that.",
        )
    if not isinstance(architecture, ResNetArchitecture | VGGArchitecture):
        raise UsageError(f"{where} is a {architecture.name}, which is not written as NIR", "Use --format onnx or pt2.")
    if isinstance(architecture, ResNetArchitecture) and architecture.spiking_block == "ms" and _pools(architecture):
        raise UsageError(
            f"the 7x7 stem of {where} takes the largest of membranes (max-pool, MS blocks), for which NIR has no node",
            "Use --format onnx or pt2; a student.stem of 3x3 has no pool.",
        )


def draw(architecture: Architecture, state: State, size: tuple[int, int], metadata: dict[str, Any]) -> nir.NIRGraph:
    """The graph of a network for images of ``size`` (height, width); ``state`` holds its canonical tensors.

    Kernels have the dtype of the stem's. The input is what the network's own normalisation gives (spikes, with Poisson
    coding), the same at every step unless it reads frames, and the output one row of logits a step: their mean over
    time is the answer.
    Raises :class:`UsageError` for a network, or a size, that cannot be said.
    """
    require_sayable(architecture, "the network")
    architecture.require_size(*size)
    stem = architecture.stem_convolution()
    neuron = architecture.neuron
    learnt = architecture.neuron_layers() if architecture.learn_decay == "layer" else {}
    decays = {act: decay_of(float(state[f"{act}.{DECAY_LOGIT}"])) for act in learnt}
    on = Drawing(neuron.decay, neuron.v_threshold, state[f"{stem.name}.weight"].dtype, decays)
    shape = (architecture.in_channels, *size)
    image = on.add("input", nir.Input(input_type={"input": np.array(shape)}), (), shape)
    if isinstance(architecture, ResNetArchitecture):
        vectors = _resnet(on, architecture, state, image)
    else:
        assert isinstance(architecture, VGGArchitecture)
        vectors = _vgg(on, architecture, state, image)
    logits = on.linear("head", state["head.weight"], state["head.bias"], vectors)
    classes = np.array([architecture.num_classes])
    on.add("output", nir.Output(output_type={"output": classes}), logits, (architecture.num_classes,))
    return on.graph(metadata)


def decay_of(logit: float) -> float:
    """sigmoid(``logit``)."""
    return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))


def folded(state: State, conv: Convolution) -> tuple[Array, Array]:
    """A kernel and bias (float64) with the convolution's BatchNorm in them."""
    weight = state[f"{conv.name}.weight"].astype(np.float64)
    gamma, beta, mean, variance = (
        state[f"{conv.norm}.{leaf}"].astype(np.float64) for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + EPS)
    return weight * scale[:, None, None, None], beta - mean * scale


def _normed(on: Drawing, state: State, conv: Convolution, stream: Stream) -> Stream:
    weight, bias = folded(state, conv)
    return on.convolve(conv.name, weight, bias, stream, conv.stride, conv.padding, conv.groups)


def _pools(architecture: ResNetArchitecture) -> bool:
    return architecture.stem == "7x7"


def _resnet(on: Drawing, architecture: ResNetArchitecture, state: State, image: Stream) -> Stream:
    stream = _normed(on, state, architecture.stem_convolution(), image)
    if architecture.spiking_block != "ms":
        stream = on.fire("stem.act", stream)
    if _pools(architecture):
        stream = on.largest_spike("stem.pool", stream, 3, 2, 1)
    block = {"spiking": _residual, "sew": _sew, "ms": _membrane}[architecture.spiking_block]
    for stage, index in architecture.blocks():
        stream = block(on, architecture, state, stage, index, stream)
    if architecture.spiking_block == "ms":
        stream = on.fire("final_act", _gained(on, state, "final_gain", stream))
    _, height, width = on.sizes[stream[0]]
    return on.flatten("flatten", on.average("average", stream, (height, width)))


def _around(
    on: Drawing, architecture: ResNetArchitecture, state: State, stage: int, block: int, stream: Stream
) -> Stream:
    """The way around a block: a projection, or the stream itself; with zeros, strides or amplitudes a 1x1 kernel that
    does the same.
    """
    projection = architecture.shortcut_convolution(stage, block)
    if projection is not None:
        return _normed(on, state, projection, stream)
    at = f"stages.{stage}.{block}.shortcut"
    entry, outer = architecture.block_input(stage, block), architecture.stage_channels(stage)
    stride = architecture.block_stride(stage, block)
    amplitude = state.get(f"{at}.amplitude.weight")
    if (entry, stride) == (outer, 1) and amplitude is None:
        return stream
    part = architecture.shortcut_part
    before = part.before(outer - entry) if isinstance(part, PaddedIdentity) else 0
    weight = np.zeros((outer, entry, 1, 1))
    weight[before + np.arange(entry), np.arange(entry), 0, 0] = 1 if amplitude is None else amplitude
    return on.convolve(at, weight, None, stream, stride, 0)


def _residual(
    on: Drawing, architecture: ResNetArchitecture, state: State, stage: int, block: int, stream: Stream
) -> Stream:
    at, convolutions = f"stages.{stage}.{block}", architecture.block_convolutions(stage, block)
    around, branch = _around(on, architecture, state, stage, block, stream), stream
    for i, conv in enumerate(convolutions):
        branch = _normed(on, state, conv, branch)
        branch = on.fire(f"{at}.act{i}", branch + around if i == len(convolutions) - 1 else branch)
    return branch


def _sew(on: Drawing, architecture: ResNetArchitecture, state: State, stage: int, block: int, stream: Stream) -> Stream:
    """Both ways are spikes: their product is 1 where the sum is above 1 and a half, and (1 - a) b where b - a is above
    a half; neurons that forget nearly all at once say so.
    """
    at, branch = f"stages.{stage}.{block}", stream
    for i, conv in enumerate(architecture.block_convolutions(stage, block)):
        branch = on.fire(f"{at}.act{i}", _normed(on, state, conv, branch))
    around = _around(on, architecture, state, stage, block, stream)
    if architecture.shortcut_convolution(stage, block) is not None:
        around = on.fire(f"{at}.shortcut_act", around)
    if architecture.join == "add":
        return branch + around
    if architecture.join == "and":
        return on.fire(f"{at}.join", branch + around, v_threshold=1.5, decay=FORGETS)
    channels = architecture.stage_channels(stage)
    minus = -np.eye(channels)[:, :, None, None]
    inhibited = on.convolve(f"{at}.inhibition", minus, None, branch, 1, 0)
    return on.fire(f"{at}.join", inhibited + around, v_threshold=0.5, decay=FORGETS)


def _membrane(
    on: Drawing, architecture: ResNetArchitecture, state: State, stage: int, block: int, stream: Stream
) -> Stream:
    at, branch = f"stages.{stage}.{block}", stream
    for i, conv in enumerate(architecture.block_convolutions(stage, block)):
        read = branch if i else _gained(on, state, f"{at}.gain", branch)
        branch = _normed(on, state, conv, on.fire(f"{at}.act{i}", read))
    return branch + _around(on, architecture, state, stage, block, stream)


def _gained(on: Drawing, state: State, name: str, stream: Stream) -> Stream:
    """The stream that neurons with a gain read: a 1x1 kernel multiplies it, for few readers know several thresholds."""
    values = state.get(f"{name}.weight")
    if values is None:
        return stream
    channels = on.sizes[stream[0]][0]
    weight = np.zeros((channels, channels, 1, 1))
    weight[np.arange(channels), np.arange(channels), 0, 0] = values
    return on.convolve(name, weight, None, stream, 1, 0)


def _vgg(on: Drawing, architecture: VGGArchitecture, state: State, image: Stream) -> Stream:
    stream = on.fire("stem.act", _normed(on, state, architecture.stem_convolution(), image))
    for stage, block in architecture.blocks():
        at = f"stages.{stage}.{block}"
        if architecture.block_stride(stage, block) > 1:
            stream = on.largest_spike(f"{at}.pool", stream, 2, 2, 0)
        conv = architecture.block_convolutions(stage, block)[0]
        stream = on.fire(f"{at}.act", _normed(on, state, conv, stream))
    stream = on.largest_spike("pool", stream, 2, 2, 0)
    _, height, width = on.sizes[stream[0]]
    side = architecture.head_side
    if height % side or width % side:
        raise UsageError(
            f"the maps before the linear layers are {height}x{width} pixels, which are no whole multiple of the "
            f"{side}x{side} that are read; NIR's mean takes equal windows",
            "Give another image size (--image-size), or use --format onnx or pt2.",
        )
    vectors = on.flatten("flatten", on.average("average", stream, (height // side, width // side)))
    for i, layer in enumerate(architecture.hidden_layers()):
        name = f"hidden.{i}"
        now = on.linear(layer.name, state[f"{layer.name}.weight"], state[f"{layer.name}.bias"], vectors)
        vectors = on.fire(f"{name}.act", now)
    return vectors
