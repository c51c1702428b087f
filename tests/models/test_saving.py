"""``save`` beside ``load``, and what a network that is built refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import idsnn_cli
from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import CheckpointError, UsageError, WriteError
from idsnn_cli.models import Model, build
from idsnn_cli.spiking import LIF

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet20": {},
    "spiking-resnet20": {"timesteps": 3, "neuron": Neuron(0.7, 0.9, reset="soft", start="half")},
    "spiking-resnet18": {"timesteps": 2, "spiking_block": "sew", "join": "iand"},
    "spiking-resnet14": {"timesteps": 2, "spiking_block": "ms"},
    "spiking-resnet50": {"timesteps": 2},
    "resnet8": {"activation": "qcfs", "levels": 4},
}


def network(name: str = "spiking-resnet20", **options: Any) -> Model:
    model = build(build_description(name, 4, width=4, **(options or NETWORKS[name])), seed=2)
    model.set_normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    model.train()
    model(images())
    return model.eval()


def images() -> Tensor:
    return torch.rand((5, 3, 16, 16), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_round_trip_is_equal_in_every_bit(tmp_path: Path, name: str, double: bool) -> None:
    model = network(name).double() if double else network(name)
    idsnn_cli.save(model, tmp_path / "saved.safetensors")
    found = idsnn_cli.load(str(tmp_path / "saved.safetensors"))
    assert found.architecture == model.architecture
    state = model.state_dict()
    assert found.state_dict().keys() == state.keys()
    for key, value in found.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key]), key
    assert torch.equal(found(images()), model(images()))
    idsnn_cli.save(found, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "saved.safetensors").read_bytes()


def test_load_gives_a_student_other_time_steps(tmp_path: Path) -> None:
    model = network()
    idsnn_cli.save(model, tmp_path / "student.safetensors")
    longer = idsnn_cli.load(tmp_path / "student.safetensors", timesteps=8)
    assert (longer.timesteps, longer.architecture.timesteps) == (8, 8)
    logits = longer(images())
    assert logits.shape == (8, 5, 4)
    # Direct coding: the first three steps are the student's own.
    torch.testing.assert_close(logits[:3], model(images()), rtol=0, atol=1e-6)
    assert idsnn_cli.load(tmp_path / "student.safetensors", timesteps=1)(images()).shape == (1, 5, 4)
    with pytest.raises(UsageError, match="timesteps"):
        idsnn_cli.load(tmp_path / "student.safetensors", timesteps=0)
    idsnn_cli.save(network("resnet20"), tmp_path / "ann.safetensors")
    with pytest.raises(UsageError, match="is an ANN, which has no time steps"):
        idsnn_cli.load(tmp_path / "ann.safetensors", timesteps=8)


def test_nothing_is_written_where_it_cannot_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    path.write_text("kept")
    broken = network()
    with torch.no_grad():
        broken.head.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"head\.weight holds NaN"):
        idsnn_cli.save(broken, path)
    masked = network()
    prune.l1_unstructured(masked.get_submodule("stem.conv"), "weight", 0.5)  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match=r"stem\.conv\.weight, stem\.conv\.weight_mask, stem\.conv\.weight_orig"):
        idsnn_cli.save(masked, path)
    counted = network()
    counted.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
    with pytest.raises(UsageError, match="total_ops"):
        idsnn_cli.save(counted, path)
    with pytest.raises(UsageError, match=r"tensors are bfloat16"):
        idsnn_cli.save(network().bfloat16(), path)
    other = network()
    neurons = other.get_submodule("stem.act")
    assert isinstance(neurons, LIF)
    neurons.neuron = Neuron(0.1, 0.2)
    with pytest.raises(UsageError, match=r"neurons of stem\.act are .*0\.1.* and the description's are .*0\.7"):
        idsnn_cli.save(other, path)
    with pytest.raises(UsageError, match="is a Linear, no network of idsnn"):
        idsnn_cli.save(nn.Linear(2, 2), path)  # type: ignore[arg-type]  # what a person may do
    with pytest.raises(WriteError):
        idsnn_cli.save(network(), tmp_path / "nowhere" / "student.safetensors")
    assert path.read_text() == "kept"
    assert [each.name for each in tmp_path.iterdir()] == ["kept.safetensors"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: setattr(model.stem.norm, "eps", 0.5), "eps of stem.norm is 0.5"),
        (lambda model: setattr(model.stem.conv, "stride", (2, 2)), r"stride of stem.conv is \(2, 2\)"),
        (lambda model: setattr(model.stages[0][0], "act0", nn.GELU()), "stages.0.0.act0 is GELU, .* is LIF"),
        (lambda model: setattr(model.stem, "pool", nn.AvgPool2d(2)), "stem.pool is AvgPool2d"),
        (lambda model: model.stages[1].append(nn.Tanh()), "stages.1.3 is Tanh, .* is none"),
    ],
)
def test_layers_that_compute_otherwise_are_not_saved_as_the_descriptions(
    tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    model = network()
    before = model(images())
    change(model)
    # What load would give back is another network.
    assert not torch.equal(model(images()), before)
    with pytest.raises(UsageError, match=words):
        idsnn_cli.save(model, tmp_path / "saved.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["spiking-resnet20", "spiking-vgg11"])
def test_what_changes_no_result_is_saved(tmp_path: Path, name: str) -> None:
    """Another momentum, a step half way, draws of Poisson coding, and a person's own notes."""
    model = build(build_description(name, 4, width=4, timesteps=2, coding="poisson"), seed=2).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.3
    model.note = "mine"
    model.step(torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1)))
    idsnn_cli.save(model, tmp_path / "saved.safetensors")
    assert idsnn_cli.load(tmp_path / "saved.safetensors").architecture == model.architecture


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("name", ["resnet20", "spiking-resnet20"])
def test_images_of_bytes_are_refused(name: str, dtype: torch.dtype) -> None:
    model = network(name)
    for call in (model, model.with_features):
        with pytest.raises(UsageError, match=str(dtype).removeprefix("torch.")) as caught:
            call((images() * 255).to(dtype))
        assert "Divide them by 255" in (caught.value.fix or "")


@pytest.mark.parametrize(
    "name", ["T", "timesteps", "v_threshold", "tau", "decay", "num_classes", "architecture", "mean"]
)
def test_attributes_that_would_change_nothing_are_refused(name: str) -> None:
    model = network()
    before = model(images())
    with pytest.raises(UsageError, match=f"setting {name} would not change the network"):
        setattr(model, name, model.architecture if name == "architecture" else 8)
    assert torch.equal(model(images()), before)


@pytest.mark.parametrize("name", ["v_threshold", "decay", "tau", "timesteps", "reset", "surrogate", "v_reset"])
def test_so_are_those_of_its_neurons(name: str) -> None:
    neurons = network().get_submodule("stem.act")
    with pytest.raises(UsageError, match=f"setting {name} of a neuron"):
        setattr(neurons, name, 2)


def test_what_changes_the_network_truly_is_not_refused() -> None:
    model = network()
    before = model(images())
    for module in model.modules():
        if isinstance(module, LIF):
            module.neuron = Neuron(0.05, 0.9)
    assert not torch.equal(model(images()), before)
    model.note = "of a person's own"  # which torch's modules take
    assert model.note == "of a person's own"
