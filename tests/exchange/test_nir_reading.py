"""NIR files read back: ours bit by bit, snnTorch's by their shape, and every file that is damaged or no ResNet."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import nirtorch
import numpy as np
import pytest
import snntorch
import torch
from exchange_networks import NETWORKS, images, network, saved
from invoking import invoke
from snntorch.export_nir import _extract_snntorch_module
from torch import Tensor, nn

import idsnn_cli
from idsnn_cli.architecture import Neuron
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError, IdsnnError, UsageError
from idsnn_cli.export.base import export
from idsnn_cli.families import SpikingReading
from idsnn_cli.spiking import LIF

Capture = pytest.CaptureFixture[str]
SIZE = (32, 32)


def written(folder: Path, name: str, **changed: Any) -> Path:
    path = folder / f"{name.replace(' ', '-')}.nir"
    export(saved(folder, network(name, **changed)), path, force=True, image_size=lambda: SIZE)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_ours_comes_back_bit_by_bit(tmp_path: Path, name: str) -> None:
    """Kernels, biases, description and normalisation; the logits; and the same file once more."""
    path = written(tmp_path, name)
    back, model = idsnn_cli.load(path), network(name)
    assert back.architecture == model.architecture
    assert torch.equal(back.input.std, model.input.std)
    graph, state = nir.read(path), back.state_dict()
    for conv in back.architecture.convolutions():
        assert np.array_equal(state[f"{conv.name}.weight"].numpy(), graph.nodes[conv.name].weight)
        assert np.array_equal(state[f"{conv.norm}.bias"].numpy(), graph.nodes[conv.name].bias)
    with torch.no_grad():
        x = images(2, 32, back.architecture.in_channels)
        assert float((back(x) - model(x)).abs().max()) < 1e-12
    idsnn_cli.save(back, tmp_path / "back.safetensors")
    export(tmp_path / "back.safetensors", tmp_path / "again.nir", image_size=lambda: SIZE)
    again = nir.read(tmp_path / "again.nir")
    assert again.nodes.keys() == graph.nodes.keys()
    assert set(again.edges) == set(graph.edges)
    for name, node in graph.nodes.items():
        first, second = node.to_dict(), again.nodes[name].to_dict()
        assert all(np.array_equal(np.asarray(first[key]), np.asarray(second[key])) for key in first), name


def test_float32_comes_back_bit_by_bit(tmp_path: Path) -> None:
    model = network("thin").float()
    export(saved(tmp_path, model), tmp_path / "a.nir", image_size=lambda: SIZE)
    back = idsnn_cli.load(tmp_path / "a.nir")
    assert back.head.weight.dtype == torch.float32
    idsnn_cli.save(back, tmp_path / "back.safetensors")
    export(tmp_path / "back.safetensors", tmp_path / "b.nir", image_size=lambda: SIZE)
    first, second = nir.read(tmp_path / "a.nir"), nir.read(tmp_path / "b.nir")
    for name, node in first.nodes.items():
        for key in ("weight", "bias"):
            if hasattr(node, key):
                assert np.array_equal(getattr(node, key), getattr(second.nodes[name], key)), (name, key)


def leaky() -> snntorch.Leaky:
    return snntorch.Leaky(beta=0.25, threshold=0.5, reset_mechanism="zero", reset_delay=False, init_hidden=True)


class Block(nn.Module):
    """As someone writes it for snnTorch: BatchNorm is folded, or never was there."""

    def __init__(self, entry: int, width: int, stride: int) -> None:
        super().__init__()
        self.first: nn.Module = nn.Conv2d(entry, width, 3, stride, 1)
        self.second: nn.Module = nn.Conv2d(width, width, 3, 1, 1)
        self.fire1: nn.Module = leaky()
        self.fire2: nn.Module = leaky()
        self.way = nn.Conv2d(entry, width, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.fire1(self.first(x)))
        fired: Tensor = self.fire2(y + (x if self.way is None else self.way(x)))
        return fired


class Theirs(nn.Sequential):
    def __init__(self) -> None:
        blocks = [Block(4, 4, 1), Block(4, 4, 1), Block(4, 8, 2), Block(8, 8, 1)]
        ends = [nn.AvgPool2d(8), nn.Flatten(), nn.Linear(8, 5)]
        super().__init__(nn.Conv2d(3, 4, 3, 1, 1), leaky(), *blocks, *ends)


def by_snntorch(path: Path) -> Theirs:
    """snnTorch's own way of writing each module, over nirtorch's tracer, which its older one lacks: it loses sums."""
    torch.manual_seed(0)
    net = Theirs().eval()
    kinds = (nn.Conv2d, nn.AvgPool2d, nn.Flatten, nn.Linear, snntorch.Leaky)
    graph = nirtorch.torch_to_nir(net, dict.fromkeys(kinds, _extract_snntorch_module), type_check=False)
    for node in graph.nodes.values():
        if isinstance(node, nir.Input | nir.Output):
            node.input_type = {"input": np.array([3, 16, 16])}
            node.output_type = {"output": np.array([5])}
        if isinstance(node, nir.Conv2d):
            node.input_shape = (16, 16)
        if isinstance(node, nir.Flatten):
            node.input_type = {"input": np.array([8, 1, 1])}
    nir.write(path, graph, compression=None)  # its scalars cannot be packed
    return net


@pytest.mark.parametrize("name", ["learnt decays", "sew add"])
def test_each_layers_learnt_decay_is_in_the_graph_and_comes_back(tmp_path: Path, name: str) -> None:
    path, model = written(tmp_path, name, learn_decay="layer"), network(name, learn_decay="layer")
    graph, state = nir.read(path), idsnn_cli.load(path).state_dict()
    for layer in model.architecture.neuron_layers():
        assert torch.equal(state[f"{layer}.decay_logit"], model.state_dict()[f"{layer}.decay_logit"])
        neurons = model.get_submodule(layer)
        assert isinstance(neurons, LIF)
        decay = neurons.decay
        assert np.allclose(1 - 1e-4 / graph.nodes[layer].tau, decay, rtol=0, atol=1e-15)
    assert len({node.tau.flat[0] for node in graph.nodes.values() if isinstance(node, nir.LIF)}) > 6


def _without(document: dict[str, Any]) -> None:
    del document["decay_logits"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without, "learnt decays are not one for each layer"),
        (lambda document: document["decay_logits"].pop("stem.act"), "learnt decays are not one for each layer"),
        (lambda document: document["decay_logits"].update({"stem.act": float("nan")}), "is no number"),
        (lambda document: document["decay_logits"].update({"stem.act": "0.1"}), "is no number"),
        (lambda document: document["decay_logits"].update({"stem.act": 0.1}), "is not what its description says"),
    ],
)
def test_learnt_decays_that_are_not_the_graphs(tmp_path: Path, change: Any, words: str) -> None:
    path = written(tmp_path, "learnt decays")
    graph = nir.read(path)
    document = json.loads(graph.metadata["idsnn"])
    change(document)
    graph.metadata["idsnn"] = json.dumps(document)
    nir.write(path, graph)
    with pytest.raises(CheckpointError, match=words):
        idsnn_cli.load(path)


def test_decays_of_others_that_differ_are_each_layers_own(tmp_path: Path) -> None:
    """Our graph without what we wrote beside it; one layer that does not forget cannot be among them."""
    path, model = written(tmp_path, "learnt decays"), network("learnt decays")
    graph = nir.read(path)
    del graph.metadata["idsnn"]
    nir.write(path, graph)
    normal = ([0.4, 0.5, 0.45], [0.2, 0.25, 0.3])
    with pytest.raises(UsageError, match="does not tell for how many time steps") as caught:
        idsnn_cli.load(path, normalise=normal)
    assert "student.decay" not in str(caught.value.fix)
    reading = SpikingReading(3, Neuron(0.5), decay=False)
    back = idsnn_cli.load(path, kind="spiking", spiking=reading, normalise=normal)
    for name, value in model.state_dict().items():
        if name.endswith("decay_logit"):
            torch.testing.assert_close(back.state_dict()[name], value, rtol=0, atol=1e-12)
    torch.testing.assert_close(back(images(2)), model(images(2)), rtol=0, atol=1e-9)
    node = graph.nodes["stem.act"]
    graph.nodes["stem.act"] = nir.IF(r=np.full_like(node.r, 1e4), v_threshold=node.v_threshold, v_reset=node.v_reset)
    nir.write(path, graph)
    with pytest.raises(IdsnnError, match=r"the neurons of 'stem\.act' have decay 1 and others another"):
        idsnn_cli.load(path, kind="spiking", spiking=reading, normalise=normal)


READING = SpikingReading(4, Neuron(0.5, 0.25))


def test_snntorchs_network_is_read_bit_by_bit(tmp_path: Path) -> None:
    """The same kernels, and the same logits at every step."""
    path = tmp_path / "theirs.nir"
    net = by_snntorch(path)
    ours = idsnn_cli.load(path, kind="spiking", spiking=READING, normalise=([0.0] * 3, [1.0] * 3))
    assert ours.architecture.describe().startswith("Spiking ResNet-10, basic blocks 2-2, widths 4-8, 3x3 stem")
    own, theirs = ours.state_dict(), dict(net.named_parameters())
    assert torch.equal(own["stages.1.0.shortcut.conv.weight"], theirs["4.way.weight"])
    assert torch.equal(own["stages.1.1.norm1.bias"], theirs["5.second.bias"])
    x = images(3, 16).float()
    with torch.no_grad():
        expected = torch.stack([net(x) for _ in range(4)])
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-6)
    assert float(expected.std()) > 0.01


def test_what_a_file_of_others_does_not_tell_has_to_be_given_and_fit(tmp_path: Path) -> None:
    path = tmp_path / "theirs.nir"
    by_snntorch(path)
    with pytest.raises(UsageError) as caught:
        idsnn_cli.load(path, normalise=([0.0] * 3, [1.0] * 3))
    assert "for how many time steps" in caught.value.message
    assert "student.v_threshold=0.5 student.decay=0.25" in str(caught.value.fix)
    with pytest.raises(UsageError, match=r"says itself that its neurons have threshold 0\.5, decay 0\.25"):
        idsnn_cli.load(path, kind="spiking", spiking=SpikingReading(4, Neuron(0.5, 0.5)))
    with pytest.raises(UsageError, match="how its images were normalised"):
        idsnn_cli.load(path, kind="spiking", spiking=READING)


def test_inspect_and_init_read_both(tmp_path: Path, capsys: Capture) -> None:
    ours, theirs = written(tmp_path, "thin"), tmp_path / "theirs.nir"
    by_snntorch(theirs)
    shown = invoke(capsys, "inspect", ours)
    assert shown.code == 0, shown.err
    assert "the BatchNorms are in the kernels" in " ".join(shown.out.split())
    assert "Spiking ResNet-8" in shown.out
    shown = invoke(capsys, "inspect", theirs)
    assert shown.code == 0, shown.err
    assert "student.v_threshold=0.5 student.decay=0.25" in " ".join(shown.out.split())
    for source, words in ((ours, ()), (theirs, ("--normalise", "none"))):
        made = invoke(
            capsys, "init", "--from", source, "--arch", "spiking-resnet8", "-o", tmp_path / "i", *words, "--force"
        )
        assert made.code == 0, made.err
        with open_checkpoint(tmp_path / "i") as file, open_checkpoint(source) as read:
            own, stem = file.get("stem.norm.bias"), read.get("stem.norm.bias")
            assert torch.equal(own[: len(stem)], stem.to(own.dtype)[: len(own)])


# Files that are damaged, edited, or something else


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.fix
    assert "\n" not in caught.value.message
    return caught.value


def edit(path: Path, change: Callable[[Any], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file["node"])


def put(group: Any, name: str, value: Any) -> None:
    del group[name]
    group[name] = value


def described(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], None]:
    def apply(node: Any) -> None:
        document = json.loads(node["metadata/idsnn"][()])
        change(document)
        put(node["metadata"], "idsnn", json.dumps(document))

    return apply


def no_edge(node: Any) -> None:
    edges = [edge for edge in node["edges"][()].tolist() if edge != [b"stem.act", b"stages.0.0.act1"]]
    put(node, "edges", edges)


EDITS: dict[str, tuple[Callable[[Any], None], str]] = {
    "no metadata's JSON": (
        lambda node: put(node["metadata"], "idsnn", "{"),
        "metadata that idsnn keeps in it is damaged",
    ),
    "no description": (described(lambda document: document.pop("architecture")), "is damaged"),
    "too few widths": (described(lambda document: document["architecture"].update(widths=[8, 16])), "differ in length"),
    "other widths": (
        described(lambda document: document["architecture"].update(widths=[8, 16, 64])),
        "but its description",
    ),
    "another neuron": (
        described(lambda document: document["architecture"]["neuron"].update(decay=0.5)),
        "node 'stem.act' is not what its description says",
    ),
    "a threshold": (
        lambda node: node["nodes/stages.1.0.act0/v_threshold"].write_direct(np.full((16, 16, 16), 0.6)),
        "node 'stages.1.0.act0' is not",
    ),
    "a lost edge": (no_edge, "its edges are not those"),
    "a lost node": (lambda node: node["nodes"].pop("stages.2.0.conv1"), "'stages.2.0.conv1' of its description is not"),
    "a node's type": (lambda node: put(node["nodes/head"], "type", "Linear"), "damaged"),
    "an unknown type": (lambda node: put(node["nodes/head"], "type", "Quantum"), "damaged"),
    "a shape": (lambda node: put(node["nodes/head"], "weight", np.zeros((6, 3))), "'head' is [6, 3]"),
    "no nodes": (lambda node: node.pop("nodes"), "damaged"),
    "text for a kernel": (lambda node: put(node["nodes/head"], "weight", "x"), "damaged"),
    "normalisation": (described(lambda document: document["input"].update(mean=[1.0])), "normalisation"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, "thin")
    change, words = EDITS[name]
    edit(path, change)
    assert words in str(refusal(path))


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.98])
def test_a_cut_file_is_refused(tmp_path: Path, fraction: float) -> None:
    path = written(tmp_path, "thin")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    assert "a NIR file, truncated or damaged" in refusal(path).message


@pytest.mark.slow
def test_flipped_bits_are_refused_or_change_weights_alone(tmp_path: Path) -> None:
    """Whatever happens to the bytes: a typed error, or a network of this description."""
    path, rng = written(tmp_path, "thin", width=2), random.Random(0)
    content, kept, told = path.read_bytes(), 0, list[str]()
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(4):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            with open_checkpoint(path) as file:
                kept += 1
                assert file.metadata is not None
                assert "stem.conv.weight" in file.shapes()
        except IdsnnError as error:
            told.append(error.message)
    assert all(str(path) in message for message in told)
    assert told
    assert len(told) + kept == 60


def test_other_hdf5_files_are_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file["layer/kernel"] = np.zeros(3)
    assert "an HDF5 file without a NIR graph, as Keras writes" in refusal(tmp_path / "keras.h5").message


def many(neurons: Any) -> None:
    """Two neurons, whose thresholds differ."""
    for key in ("tau", "r", "v_leak", "v_reset"):
        setattr(neurons, key, np.repeat(getattr(neurons, key), 2))
    neurons.v_threshold = np.array([0.7, 0.5])


def test_graphs_that_are_no_resnet_are_refused(tmp_path: Path) -> None:
    """What snnTorch's older tracer makes of a sum, a circle, a chain, a network of two neurons."""
    path = tmp_path / "x.nir"
    by_snntorch(path)
    whole = nir.read(path, type_check=False)
    lifs = [name for name, node in whole.nodes.items() if isinstance(node, nir.LIF)]
    cases: list[tuple[Callable[[Any], None], str]] = [
        (lambda graph: graph.edges.remove(next(e for e in graph.edges if e[1] == lifs[2])), "where a ResNet has one"),
        (lambda graph: graph.edges.append((lifs[2], lifs[1])), "runs in a circle"),
        (lambda graph: graph.edges.append((lifs[2], "nobody")), "no node of it"),
        (lambda graph: setattr(graph.nodes[lifs[1]], "v_threshold", np.array(0.7)), "have 2 thresholds"),
        (lambda graph: setattr(graph.nodes[lifs[1]], "v_leak", np.array(0.7)), "leak, to another potential"),
        (lambda graph: many(graph.nodes[lifs[1]]), "2 values of v_threshold"),
    ]
    for change, words in cases:
        graph = nir.NIRGraph(dict(whole.nodes), list(whole.edges), type_check=False)
        graph.nodes = {name: type(node).from_dict(node.to_dict()) for name, node in whole.nodes.items()}
        change(graph)
        nir.write(path, graph, compression=None)
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        assert words in caught.value.message
