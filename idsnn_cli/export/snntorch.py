"""snnTorch: a network of torch's layers and its leaky neurons, as its users write them, with a state dict for that."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.architecture import DECAY_LOGIT, Architecture, Convolution
from idsnn_cli.errors import UsageError
from idsnn_cli.export._peers import Peer, State
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.blocks import PaddedIdentity

# What a leaky neuron of snnTorch keeps in a state dict.
_RESETS = {"subtract": 0, "zero": 1}


class SnnTorch(Peer):
    """Its neuron is ours where it resets to zero at once. Its subtracting reset takes theta from the next step, after
    the decay, which is ours where nothing decays.
    """

    key = "snntorch"
    words = "a state dict for snnTorch, and the lines that build the model"
    title = "snnTorch"
    package = "snntorch"

    def network(self, architecture: Architecture, where: object) -> ResNetArchitecture:
        found = super().network(architecture, where)
        neuron = found.neuron
        if neuron.reset == "soft" and neuron.decay != 1:
            decay = "learnt decays" if found.learn_decay == "layer" else f"decay {neuron.decay:g}"
            raise UsageError(
                f"{where} resets softly with {decay}, but what a spike takes does not decay in snnTorch",
                "Use --format spikingjelly, onnx or pt2.",
            )
        if found.learn_start != "none":
            raise UsageError(
                f"the neurons of {where} learnt what they start with, and snnTorch's start at 0",
                "Use --format onnx or pt2.",
            )
        if neuron.start == "half":
            raise UsageError(
                f"the neurons of {where} start at half their threshold, and snnTorch's at 0",
                "Use --format spikingjelly, onnx or pt2.",
            )
        return found

    def names(self, architecture: ResNetArchitecture) -> dict[str, str]:
        found: dict[str, str] = {}
        self._walk(architecture, found)
        return found

    def more(self, architecture: ResNetArchitecture, state: State, dtype: torch.dtype) -> dict[str, Tensor]:
        neuron, found = architecture.neuron, dict[str, Tensor]()
        for place, act in self._walk(architecture, {}):
            logit = state.get(f"{act}.{DECAY_LOGIT}")
            # In doubles, for the file is compared in them.
            learnt = None if logit is None else torch.sigmoid(logit.double())
            found[f"{place}.beta"] = torch.tensor(neuron.decay, dtype=dtype) if learnt is None else learnt
            found[f"{place}.threshold"] = torch.tensor(neuron.v_threshold, dtype=dtype)
            found[f"{place}.graded_spikes_factor"] = torch.tensor(1.0, dtype=dtype)
            found[f"{place}.reset_mechanism_val"] = torch.tensor(_RESETS[_reset(architecture)])
        return found

    def _walk(self, architecture: ResNetArchitecture, names: dict[str, str]) -> list[tuple[str, str]]:
        """The places of the neurons, and our names; fills the names of tensors in the order of :meth:`lines`."""
        neurons: list[tuple[str, str]] = []

        def normed(at: str, start: int, conv: Convolution) -> None:
            names[f"{conv.name}.weight"] = f"{at}{start}.weight"
            for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                names[f"{conv.norm}.{leaf}"] = f"{at}{start + 1}.{leaf}"

        ms, sew = architecture.spiking_block == "ms", architecture.spiking_block == "sew"
        normed("", 0, architecture.stem_convolution())
        place = 2
        if not ms:
            neurons.append(("2", "stem.act"))
            place = 3
        if architecture.stem == "7x7":
            place += 1
        for stage, block in architecture.blocks():
            at, convolutions = f"{place}.way.", architecture.block_convolutions(stage, block)
            ours = f"stages.{stage}.{block}"
            for i, conv in enumerate(convolutions):
                normed(at, 3 * i + ms, conv)
                if ms or sew or i < len(convolutions) - 1:
                    neurons.append((f"{at}{3 * i if ms else 3 * i + 2}", f"{ours}.act{i}"))
            projection = architecture.shortcut_convolution(stage, block)
            if projection is not None:
                normed(f"{place}.short.", 0, projection)
                neurons += [(f"{place}.short.2", f"{ours}.shortcut_act")] if sew else []
            neurons += [] if ms or sew else [(f"{place}.lif", f"{ours}.act{len(convolutions) - 1}")]
            place += 1
        if ms:
            neurons.append((str(place), "final_act"))
            place += 1
        for leaf in ("weight", "bias"):
            names[f"head.{leaf}"] = f"{place + 2}.{leaf}"
        return neurons

    def lines(self, architecture: ResNetArchitecture, dtype: torch.dtype, target: Path) -> list[str]:
        stem = architecture.stem_convolution()
        ms = architecture.spiking_block == "ms"
        first = f"*conv({stem.in_channels}, {stem.out_channels}, {stem.kernel}, {stem.stride}, {stem.padding})"
        first += "" if ms else ", lif()"
        first += ", nn.MaxPool2d(3, 2, 1)" if architecture.stem == "7x7" else ""
        last = "lif(), " if ms else ""
        last += f"nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear({architecture.features}, {architecture.num_classes})"
        return [
            "import snntorch as snn, torch",
            "from torch import nn",
            f"def lif(): return snn.Leaky({_neuron(architecture)})",
            "def conv(i, o, k, s=1, p=None): return "
            "nn.Conv2d(i, o, k, s, k // 2 if p is None else p, bias=False), nn.BatchNorm2d(o)",
            "class Block(nn.Module):",
            "    def __init__(self, way, short):",
            "        super().__init__()",
            f"        self.way, self.short{_last(architecture)} = nn.Sequential(*way), nn.Sequential(*short)"
            + (", lif()" if _last(architecture) else ""),
            f"    def forward(self, x): return {_sum(architecture)}",
            f"def block(i, w, o, s): return Block({_way(architecture)}, {_short(architecture)})",
            f"shapes = {_shapes(architecture)}",
            f"net = nn.Sequential({first}, *(block(*shape) for shape in shapes), {last}).eval()",
            *(["net.double()"] if dtype == torch.float64 else []),
            f"net.load_state_dict(torch.load({str(target)!r}))",
        ]

    def calls(self, architecture: ResNetArchitecture) -> list[str]:
        return [
            "neurons = [part for part in net.modules() if isinstance(part, snn.Leaky)]",
            "for neuron in neurons: neuron.mem = torch.zeros(0, dtype=x.dtype)",
            "logits = torch.stack([net(step) for step in x])  # (T, N, classes); the answer is their mean over T",
        ]


def _reset(architecture: ResNetArchitecture) -> str:
    return "subtract" if architecture.neuron.reset == "soft" else "zero"


def _neuron(architecture: ResNetArchitecture) -> str:
    own, reset = architecture.neuron, _reset(architecture)
    return (
        f'beta={own.decay!r}, threshold={own.v_threshold!r}, reset_mechanism="{reset}", reset_delay={reset != "zero"}, '
        "init_hidden=True, spike_grad=lambda v: (v > 0).to(v.dtype)"
    )


def _last(architecture: ResNetArchitecture) -> str:
    return ", self.lif" if architecture.spiking_block == "spiking" else ""


def _sum(architecture: ResNetArchitecture) -> str:
    if architecture.spiking_block == "spiking":
        return "self.lif(self.way(x) + self.short(x))"
    join = architecture.join if architecture.spiking_block == "sew" else "add"
    return {
        "add": "self.way(x) + self.short(x)",
        "and": "self.way(x) * self.short(x)",
        "iand": "(1 - self.way(x)) * self.short(x)",
    }[join]


def _way(architecture: ResNetArchitecture) -> str:
    """The main path of a block that reads i channels, has w inside and gives o, striding by s."""
    if architecture.block == "basic":
        convs = ["*conv(i, o, 3, s)", "*conv(o, o, 3)"]
    else:
        convs = ["*conv(i, w, 1)", "*conv(w, w, 3, s)", "*conv(w, o, 1)"]
    if architecture.spiking_block == "ms":
        return f"[lif(), {', lif(), '.join(convs)}]"
    return f"[{', lif(), '.join(convs)}{', lif()' if architecture.spiking_block == 'sew' else ''}]"


def _short(architecture: ResNetArchitecture) -> str:
    part = architecture.shortcut_part
    if isinstance(part, PaddedIdentity):
        before = "(o - i) // 2" if part.before(2) else "0"
        pads = f"[nn.AvgPool2d(1, s), nn.ZeroPad3d((0, 0, 0, 0, {before}, o - i - {before}))]"
    else:
        pads = "[*conv(i, o, 1, s)" + (", lif()]" if architecture.spiking_block == "sew" else "]")
    return f"{pads} if (i, s) != (o, 1) else []"


def _shapes(architecture: ResNetArchitecture) -> list[tuple[int, int, int, int]]:
    return [
        (
            architecture.block_input(stage, block),
            architecture.widths[stage],
            architecture.stage_channels(stage),
            architecture.block_stride(stage, block),
        )
        for stage, block in architecture.blocks()
    ]


FORMAT = SnnTorch()
