"""A family of other networks, here plain ones without shortcuts as VGG is, is one file: every command knows it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = '''
"""Plain networks: a convolution, its BatchNorm and an activation, again and again; each stage but the first strides."""

import re
from dataclasses import dataclass, field, replace

from idsnn_cli.architecture import Architecture, Neuron
from idsnn_cli.architecture.naming import Family
from idsnn_cli.architecture.parts import Convolution, ReLU, Spiking, normed
from idsnn_cli.architecture.protocol import Spaces
from idsnn_cli.errors import UsageError

SPIKING = ("timesteps", "neuron", "spiking_block", "join", "coding", "amplitude")


@dataclass(frozen=True, slots=True)
class Plain(Architecture):
    depths: tuple
    width: int
    num_classes: int
    in_channels: int = 3
    activation: ReLU = field(default_factory=ReLU)
    spiking: Spiking | None = None
    family = "plain"

    @property
    def name(self):
        return f"{'spiking-' if self.spiking else ''}plain{sum(self.depths) + 2}"

    @property
    def features(self):
        return self.stage_channels(-1)

    def stage_channels(self, stage):
        return self.width * 2 ** (stage % len(self.depths))

    def block_stride(self, stage, block):
        return 2 if stage and not block else 1

    def stem_convolutions(self):
        return (Convolution("stem.conv", "stem.norm", self.in_channels, self.width, 3, 1, 1),)

    def block_convolutions(self, stage, block):
        at, out = f"stages.{stage}.{block}", self.stage_channels(stage)
        entry = out if block else self.stage_channels(max(stage - 1, 0))
        stride = self.block_stride(stage, block)
        return (Convolution(f"{at}.conv0", f"{at}.norm0", entry, out, 3, stride, 1, stage, block),)

    def tensors(self):
        shapes = {"input.mean": (self.in_channels, 1, 1), "input.std": (self.in_channels, 1, 1)}
        for conv in self.convolutions():
            shapes |= normed(conv)
        return shapes | {"head.weight": (self.num_classes, self.features), "head.bias": (self.num_classes,)}

    def streams(self):
        spaces, before = Spaces({"input": self.in_channels}), "input"
        for conv in self.convolutions():
            # Nothing is added to anything, so that every layer may choose its own channels.
            here = conv.name.removesuffix(".conv").replace("conv0", "inner0")
            spaces.sizes[here] = conv.out_channels
            spaces.reads[conv.name], spaces.writes[conv.name], spaces.norms[conv.norm] = before, here, here
            before = here
        return replace(spaces, features=before)

    def layer_macs(self, height, width):
        size = (height, width)
        for conv in self.convolutions():
            macs, size = conv.macs(size)
            yield macs, conv.stage, size

    def activations(self):
        yield from ((name, name) for name in ("stem.act", *(f"stages.{s}.{b}.act" for s, b in self.blocks())))

    def watched_places(self):
        places = self.activation_layers().items()
        return [(self.streams().writes[conv.name], name, None) for name, conv in places]

    def traits(self):
        own = {"kind": self.kind, "depths": self.depths, "width": self.width, "num_classes": self.num_classes}
        return own | {"in_channels": self.in_channels} | (self.spiking.traits() if self.spiking else {})

    def changed(self, **traits):
        kept = self.traits() | traits
        kept["neuron"] = traits.get("neuron", self.neuron)
        return make(**kept)

    def usual_traits(self):
        return {}

    @property
    def builder(self):
        return "idsnn_cli.networks.plain:network"

    def family_words(self):
        return [f"plain network of {sum(self.depths) + 2} layers", f"width {self.width}"]


def make(kind, depths, width, num_classes, in_channels=3, **traits):
    spiking = {key: traits.pop(key) for key in SPIKING if key in traits}
    usual = {"spiking_block": "spiking", "join": "add", "amplitude": "one"}
    for key, value in usual.items():
        if spiking.get(key, value) != value:
            raise UsageError(f"a plain network has no {key} {spiking[key]}", "Leave it out.")
    odd = {"activation": "relu", "levels": 0, "shortcut": None, "stem": "3x3", "stem_padding": None}
    for key, value in traits.items():
        if value not in (odd.get(key), None) and (key, value) != ("shortcut", "projection"):
            raise UsageError(f"a plain network has no {key} {value}", "Leave it out.")
    if "spiking_block" in spiking:
        spiking["block"] = spiking.pop("spiking_block")
    spiking = Spiking(**spiking) if kind == "spiking" else None
    return Plain(tuple(depths), width, num_classes, in_channels, spiking=spiking)


def describe(name, num_classes, *, width=None, **traits):
    layers = int(re.sub(r"[^0-9]", "", name)) - 2
    kind = "spiking" if name.startswith("spiking-") else "ann"
    return make(kind, (layers // 2, layers // 2), width or 16, num_classes, **traits)


def read(plain):
    neuron = {"neuron": Neuron(**plain["neuron"])} if "neuron" in plain else {}
    return make(**{**plain, **neuron})


def network(architecture):
    from torch import nn

    from idsnn_cli.models.base import Model
    from idsnn_cli.spiking import BatchNorm, fire

    class Layer(nn.Module):
        def __init__(self, conv, norm_name, activation):
            super().__init__()
            shape = (conv.in_channels, conv.out_channels, conv.kernel, conv.stride, conv.padding)
            self.names = (conv.name.rpartition(".")[2], norm_name.rpartition(".")[2])
            self.add_module(self.names[0], nn.Conv2d(*shape, bias=False))
            self.add_module(self.names[1], BatchNorm(conv.out_channels))
            self.act = activation()

        def forward(self, x, repeat=1):
            conv, norm = map(self.get_submodule, self.names)
            return fire(norm, self.act, conv(x), repeat=repeat)

    class PlainNetwork(Model):
        def __init__(self):
            super().__init__(architecture)

            def layer(conv):
                return Layer(conv, conv.norm, self.activation())

            self.stem = layer(architecture.stem_convolution())
            self.stages = nn.Sequential(
                *(
                    nn.Sequential(*(layer(architecture.block_convolutions(stage, b)[0]) for b in range(depth)))
                    for stage, depth in enumerate(architecture.depths)
                )
            )
            self.head = nn.Linear(architecture.features, architecture.num_classes)

    return PlainNetwork()


FAMILY = Family(("plain4", "plain8"), ("spiking-plain4", "spiking-plain8"), describe, read)
'''


@pytest.mark.slow
def test_a_network_of_another_kind_goes_through_every_command(tmp_path: Path) -> None:
    for part in ("idsnn_cli", "recipes"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "idsnn_cli" / "networks" / "plain.py").write_text(PLAIN, encoding="utf-8")

    def idsnn(*words: str, code: int = 0) -> dict[str, object]:
        command = [sys.executable, "-m", "idsnn_cli", *words, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    idsnn(
        *("run", "quickstart", "data.subset=64", "data.test_subset=40", "--run-dir", "run"),
        *("teacher.arch=plain8", "teacher.stem=3x3", "student.arch=spiking-plain4", "student.stem=3x3"),
        *("student.timesteps=2", "teacher.width=8", "student.width=6", "teacher.epochs=1", "distill.epochs=1"),
        *("init.channels=merge", "distill.features=mse", "eval.measure=[activity, energy, latency]"),
    )
    document = json.loads((tmp_path / "run" / "eval.json").read_text())
    teacher, student = document["results"][0], document["results"][-1]
    assert teacher["architecture"].startswith("plain network of 8 layers, width 8, 10 classes")
    # Stem 3 x 6 x 9, two layers of 6 x 6 x 9 and 6 x 12 x 9, gamma and beta of each, and a linear layer of 12 x 10.
    parameters = 162 + 324 + 648 + 2 * (6 + 6 + 12) + 130
    assert next(row for row in document["results"] if row["name"] == "student")["parameters"] == parameters
    assert student["timesteps"] == 2
    # At 32 x 32: 162 x 1024 + 324 x 1024 + 648 x 256 MACs, and 120 of the linear layer.
    energy = next(row for row in document["results"] if row["name"] == "student")["energy"]
    assert energy["ann_macs"] == 162 * 1024 + 324 * 1024 + 648 * 256 + 120
    plan = idsnn("inspect", "--plan", "run/teacher.safetensors", "--to", "spiking-plain4")
    assert "conv0" in json.dumps(plan)
    idsnn("init", "--from", "run/teacher.safetensors", "--arch", "spiking-plain4", "-o", "start.safetensors")
    idsnn("inspect", "start.safetensors")
    # Its spikes stand for the activations of the network that it was made from, layer by layer.
    conversion = ("--convert", "threshold-balancing", "init.calibrate=1", "data.dataset=digits", "student.timesteps=4")
    start = ("init", "--from", "run/teacher.safetensors", "--arch", "spiking-plain4", "student.reset=soft")
    idsnn(*start, *conversion, "student.decay=1", "-o", "converted.safetensors")
    mapping = idsnn("inspect", "converted.safetensors")["mapping"]
    assert isinstance(mapping, dict)
    assert sorted(mapping["lambdas"]) == ["stages.0.0.inner0", "stages.1.0.inner0", "stem"]
    # What it cannot be it refuses, in the words of its own file.
    for words in (("student.block=sew",), ("student.amplitude=channel",)):
        refused = idsnn(
            "init", "--from", "run/teacher.safetensors", "--arch", "spiking-plain4", *words, "-o", "x", code=2
        )
        assert "a plain network has no" in json.dumps(refused)
    # Blocks of other lengths are refused by both lengths, whatever the families; no option of one goes to the other.
    for arch, ours, theirs in (("spiking-resnet8", "2 convolutions", "1 convolution"),):
        refused = idsnn("init", "--from", "run/teacher.safetensors", "--arch", arch, "-o", "x.safetensors", code=1)
        error = refused["error"]
        assert isinstance(error, dict)
        assert f"a block of {theirs} does not become one of {ours}" in error["message"]
