"""SpikingJelly: the state dict of its own Spiking ResNet or SEW ResNet, and the lines that build that."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.architecture import DECAY_LOGIT, Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.export._peers import Peer, State, above, short, stage_shapes
from idsnn_cli.families.matching import source_name
from idsnn_cli.families.schemes import SCHEMES
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.blocks import PaddedIdentity

_NAMES = next(scheme for scheme in SCHEMES if scheme.name == "torchvision")
_STAGES = 4  # that its ResNets have; those that are too many do nothing


class SpikingJelly(Peer):
    """Its neuron fires at v >= v_threshold, and the student's above theta: its threshold is the next number, but for a
    soft reset, which takes the threshold away.
    """

    key = "spikingjelly"
    words = "a state dict in SpikingJelly's names, and the lines that build its model"
    title = "SpikingJelly"
    package = "spikingjelly"

    def network(self, architecture: Architecture, where: object) -> ResNetArchitecture:
        found = super().network(architecture, where)
        if isinstance(found.shortcut_part, PaddedIdentity):
            raise UsageError(
                f"{where} has option-A shortcuts, and SpikingJelly's ResNets have projections",
                "Use --format snntorch, nir, onnx or pt2.",
            )
        if found.learn_start != "none":
            raise UsageError(
                f"the neurons of {where} learnt what they start with, and SpikingJelly's start all alike",
                "Use --format onnx or pt2.",
            )
        if found.spiking_block == "ms":
            raise UsageError(
                f"{where} has MS blocks, and SpikingJelly's MS-ResNet strides and projects elsewhere",
                "Use --format snntorch, nir, onnx or pt2.",
            )
        if (found.spiking_block, found.join, found.block) == ("sew", "iand", "bottleneck"):
            raise UsageError(
                f"{where} joins bottlenecks by IAND, of which SpikingJelly's negates the other side",
                "Use --format snntorch, nir, onnx or pt2.",
            )
        if found.neuron.decay == 0:
            raise UsageError(
                f"the neurons of {where} forget at once (decay 0), and SpikingJelly's have a tau above 1",
                "Use --format snntorch, nir, onnx or pt2.",
            )
        if len(found.depths) > _STAGES:
            raise UsageError(
                f"{where} has {len(found.depths)} stages, and SpikingJelly's ResNets {_STAGES}", "Use --format nir."
            )
        return found

    def names(self, architecture: ResNetArchitecture) -> dict[str, str]:
        found = {}
        for name in architecture.tensors():
            theirs = source_name(_NAMES, name)
            if theirs is not None:
                found[name] = theirs
        return found

    def more(self, architecture: ResNetArchitecture, state: State, dtype: torch.dtype) -> dict[str, Tensor]:
        """Of neurons that learnt their decay the w of its own: the decay is 1 - sigmoid(w) = sigmoid(-w)."""
        found = {}
        for act in architecture.neuron_layers():
            logit = state.get(f"{act}.{DECAY_LOGIT}")
            if logit is not None:
                found[f"{_neuron_name(act)}.w"] = -logit
        return found

    def lines(self, architecture: ResNetArchitecture, dtype: torch.dtype, target: Path) -> list[str]:
        sew = architecture.spiking_block == "sew"
        module, kind = ("sew_resnet", "SEWResNet") if sew else ("spiking_resnet", "SpikingResNet")
        block = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[architecture.block]
        stem = architecture.stem_convolution()
        sizes = (stem.in_channels, stem.out_channels, stem.kernel, stem.stride, stem.padding)
        lines = [
            "import torch",
            "from spikingjelly.activation_based import functional, layer, neuron",
            f"from spikingjelly.activation_based.model.{module} import {block}, {kind}",
            f"lif = dict({_neuron(architecture, dtype)}{_join(architecture)})",
            f"net = {kind}({block}, [1, 1, 1, 1], **lif)",
            f"net.conv1, net.bn1 = layer.Conv2d({', '.join(map(str, sizes))}, bias=False), "
            f"layer.BatchNorm2d({stem.out_channels})",
            f"net.inplanes, net.fc = {stem.out_channels}, layer.Linear({architecture.features}, "
            f"{architecture.num_classes})",
            f"for i, (width, blocks, stride) in enumerate({stage_shapes(architecture)}, 1):",
            f'    setattr(net, f"layer{{i}}", net._make_layer({block}, width, blocks, stride, **lif))',
        ]
        idle = [f"net.layer{i}" for i in range(len(architecture.depths) + 1, _STAGES + 1)]
        idle += [] if architecture.stem == "7x7" else ["net.maxpool"]
        if idle:
            lines.append(f"{' = '.join(idle)} = torch.nn.Identity()")
        if dtype == torch.float64:
            lines.append("net.double()")
        lines += [f"net.load_state_dict(torch.load({str(target)!r}))", 'functional.set_step_mode(net.eval(), "m")']
        return lines

    def calls(self, architecture: ResNetArchitecture) -> list[str]:
        lines = ["functional.reset_net(net)"]
        neuron = architecture.neuron
        if neuron.start == "half":
            half = repr(neuron.v_threshold / 2)
            lines.append(f"[setattr(m, 'v', {half}) for m in net.modules() if isinstance(m, neuron.BaseNode)]")
        return [*lines, "logits = net(x)  # (T, N, classes); the answer is their mean over T"]


def _neuron_name(act: str) -> str:
    """SpikingJelly's name of a layer of neurons."""
    first, *rest = act.split(".")
    if first == "stem":
        return "sn1"
    stage, block, leaf = rest
    own = "downsample_sn" if leaf == "shortcut_act" else f"sn{int(leaf.removeprefix('act')) + 1}"
    return f"layer{int(stage) + 1}.{block}.{own}"


def _neuron(architecture: ResNetArchitecture, dtype: torch.dtype) -> str:
    own = architecture.neuron
    soft = own.reset == "soft"
    threshold = own.v_threshold if soft else above(own.v_threshold, dtype)
    constants = f"v_threshold={threshold!r}, v_reset={None if soft else 0.0}"
    if architecture.learn_decay == "layer":
        return f"spiking_neuron=neuron.ParametricLIFNode, decay_input=False, {constants}"
    if own.decay == 1:
        return f"spiking_neuron=neuron.IFNode, {constants}"
    return f"spiking_neuron=neuron.LIFNode, tau={1 / (1 - short(own.decay))!r}, decay_input=False, {constants}"


def _join(architecture: ResNetArchitecture) -> str:
    return f", cnf={architecture.join.upper()!r}" if architecture.spiking_block == "sew" else ""


FORMAT = SpikingJelly()
