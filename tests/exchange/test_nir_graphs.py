"""Students as NIR graphs: the same spikes from the graph alone and in other libraries; the rest refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from exchange_networks import NETWORKS, images, network, saved
from hypothesis import given
from hypothesis import strategies as st

from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import UsageError
from idsnn_cli.exchange.drawing import DT, leaky_constants
from idsnn_cli.export._comparing import run_with_spikes
from idsnn_cli.export.base import Compared, Images, export
from idsnn_cli.models import Model
from idsnn_cli.spiking import LIF

SIDE = 32
# What a reader is known to refuse, and its words.
REFUSED = {
    ("snnTorch", "integrate"): "it reads IF as a leaky neuron",
    ("SpikingJelly", "no memory"): "tau / dt must be finite and greater than 1",
}


def written(folder: Path, model: Model, count: int = 3) -> tuple[Path, tuple[Compared, ...]]:
    source = saved(folder, model)
    seen = Images(images(count, SIDE, model.architecture.in_channels), torch.zeros(count, dtype=torch.int64))
    target = folder / "student.nir"
    done = export(source, target, force=True, image_size=lambda: (SIDE, SIDE), images=lambda: seen)
    assert done.verified is not None
    return target, done.verified


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow if each == "bottlenecks" else ()) for each in NETWORKS]
)
def test_every_reader_of_nir_gives_the_same_spikes_in_float64(tmp_path: Path, name: str) -> None:
    """Numpy from the graph alone, snnTorch and SpikingJelly: none of the spikes of any layer and step differs."""
    model = network(name)
    _, compared = written(tmp_path, model, 2)
    assert [each.reader.split()[0] for each in compared] == ["numpy", "snnTorch", "SpikingJelly"]
    for each in compared:
        reader = each.reader.split()[0]
        if (reader, name) in REFUSED:
            assert REFUSED[reader, name] in str(each.left_out)
            continue
        assert each.left_out is None
        assert each.differing == 0, each.layers
        assert each.largest is not None
        assert each.largest < 1e-12
        assert each.top1_equal == each.images == 2
        layers = each.layers or {}
        assert {"stem.act", "final_act"} & layers.keys()
        # Spikes were compared at every step, of all neurons.
        graph = nir.read(tmp_path / "student.nir")
        neurons = sum(node.v_threshold.size for node in graph.nodes.values() if isinstance(node, nir.LIF | nir.IF))
        assert each.spikes == neurons * model.timesteps * 2


def test_spikes_come_through_every_layer_of_these_networks() -> None:
    """Or their equality would say nothing."""
    for name in NETWORKS:
        model = network(name)
        layers = {part: part for part, module in model.named_modules() if isinstance(module, LIF)}
        _, spikes = run_with_spikes(model, images(2, SIDE, model.architecture.in_channels), layers)
        rates = {part: float(each.mean()) for part, each in spikes.items()}
        assert all(0.005 < rate < 0.95 for rate in rates.values()), (name, rates)


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_constants_of_a_leaky_neuron_give_its_decay_back(decay: float) -> None:
    tau, r = leaky_constants(decay)
    assert abs((1 - DT / tau) - decay) <= 2**-53
    assert abs(DT / tau * r - 1) <= 2**-53


def test_usual_decays_are_exact() -> None:
    """Those that 1 - x of a double can be, as 0.1 cannot."""
    for decay in (0.0, 0.25, 0.5, 0.75, 0.9, 0.99):
        tau, r = leaky_constants(decay)
        assert (1 - DT / tau, DT / tau * r) == (decay, 1.0)


def test_what_stands_in_the_graph(tmp_path: Path) -> None:
    """Values worked out here: a folded kernel, a projection and an identity as edges, the neuron, the input outside."""
    model = network("thin")
    path, _ = written(tmp_path, model)
    graph = nir.read(path)  # with NIR's own check of types
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    scale = state["stages.1.0.norm1.weight"] / np.sqrt(state["stages.1.0.norm1.running_var"] + 1e-5)
    node = graph.nodes["stages.1.0.conv1"]
    np.testing.assert_allclose(node.weight, state["stages.1.0.conv1.weight"] * scale[:, None, None, None], rtol=1e-14)
    bias = state["stages.1.0.norm1.bias"] - state["stages.1.0.norm1.running_mean"] * scale
    np.testing.assert_allclose(node.bias, bias, rtol=1e-12)
    into = {target: {source for source, end in graph.edges if end == target} for _, target in graph.edges}
    assert into["stages.0.0.act1"] == {"stages.0.0.conv1", "stem.act"}
    assert into["stages.1.0.act1"] == {"stages.1.0.conv1", "stages.1.0.shortcut.conv"}
    lif = graph.nodes["stages.2.0.act0"]
    assert lif.v_threshold.shape == (32, 8, 8)
    assert {float(lif.v_threshold.flat[0]), float(lif.v_reset.flat[0]), float(lif.v_leak.flat[0])} == {0.5, 0.0}
    assert (graph.metadata["timesteps"], graph.metadata["dt"]) == (3, 1e-4)
    assert graph.metadata["input"] == "(x - 0.4/0.5/0.45) / 0.2/0.25/0.3 of images x in 0 to 1"
    np.testing.assert_allclose(graph.metadata["input_std"], [0.2, 0.25, 0.3], rtol=1e-6)
    assert json.loads(graph.metadata["idsnn"])["architecture"] == model.architecture.to_dict()


def test_float32_students_stay_float32(tmp_path: Path) -> None:
    path, compared = written(tmp_path, network("thin").float())
    assert nir.read(path).nodes["stages.0.0.conv0"].weight.dtype == np.float32
    # Rounded kernels, in float64: they may fire elsewhere only where a membrane is at the threshold.
    assert compared[0].largest is not None
    assert compared[0].largest < 1e-2


CANNOT: list[tuple[str, dict[str, Any], str, str]] = [
    ("thin", {"neuron": Neuron(reset="soft")}, "resets softly", "onnx"),
    ("thin", {"neuron": Neuron(start="half")}, "start at half their threshold", "onnx"),
    ("thin", {"learn_start": "channel"}, "learnt what they start with", "onnx"),
    ("thin", {"amplitude": "channel"}, "learnt spike amplitudes", "--format fold"),
    ("ms", {"stem": "7x7"}, "largest of membranes (max-pool", "3x3"),
]


@pytest.mark.parametrize(("name", "changed", "words", "fix"), CANNOT, ids=[each[2] for each in CANNOT])
def test_what_nir_cannot_say_is_refused_by_name(
    tmp_path: Path, name: str, changed: dict[str, Any], words: str, fix: str
) -> None:
    source = saved(tmp_path, network(name, **changed))
    with pytest.raises(UsageError) as caught:
        export(source, tmp_path / "out.nir", image_size=lambda: (SIDE, SIDE))
    assert words in caught.value.message
    assert fix in str(caught.value.fix)
    assert not list(tmp_path.glob("*out*"))


def test_unequal_windows_before_linear_layers_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, network("vgg", head_widths=(12,), head_side=3))
    with pytest.raises(UsageError, match="no whole multiple"):
        export(source, tmp_path / "out.nir", image_size=lambda: (64, 64))
    export(source, tmp_path / "out.nir", image_size=lambda: (96, 96))


def test_the_size_of_images_has_to_be_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--image-size"):
        export(saved(tmp_path, network("thin")), tmp_path / "out.nir")


def test_the_same_student_gives_the_same_bytes(tmp_path: Path) -> None:
    source = saved(tmp_path, network("thin"))
    for name in ("a.nir", "b.nir"):
        export(source, tmp_path / name, image_size=lambda: (SIDE, SIDE))
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
