"""``load``: a checkpoint file becomes a network that is ready, or an error that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

import idsnn_cli
from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import CheckpointError, MappingError, UsageError
from idsnn_cli.models import Model, build, load
from idsnn_cli.spiking import LIF

HALF = ((0.5,) * 3, (0.25,) * 3)


def trained(name: str = "spiking-resnet8") -> Model:
    """A network whose statistics and normalisation are not those of a new one."""
    model = build(build_description(name, 3, width=4), seed=1)
    model.set_normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    model.train()
    model(images())
    return model.eval()


def images() -> Tensor:
    return torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(1))


def save(path: Path, architecture: Architecture, state: dict[str, Tensor]) -> Path:
    write_checkpoint(path, state, {"architecture": architecture.to_dict()})
    return path


@pytest.mark.parametrize("name", ["resnet8", "spiking-resnet8"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    model = trained(name)
    found = load(save(tmp_path / "own.safetensors", model.architecture, model.state_dict()))
    assert not found.training
    assert found.architecture == model.architecture
    assert any(isinstance(module, LIF) for module in found.modules()) == name.startswith("spiking")
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(found(images()), model(images()))
    assert all(parameter.requires_grad for parameter in found.parameters())
    assert idsnn_cli.load is load


def test_what_is_loaded_can_be_trained_without_touching_the_file(tmp_path: Path) -> None:
    model = trained()
    path = save(tmp_path / "own.safetensors", model.architecture, model.state_dict())
    before = path.read_bytes()
    found = load(str(path)).train()
    found(images()).sum().backward()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.sub_(0.1)
    assert path.read_bytes() == before


def test_a_foreign_file_needs_its_normalisation(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(weights=None, num_classes=3).eval()
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": theirs.state_dict(), "epoch": 4}, path)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert "normalis" in caught.value.message
    found = load(path, normalise=HALF)
    batch = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(found(batch), theirs((batch - 0.5) / 0.25), rtol=1e-4, atol=1e-4)


def test_our_own_file_refuses_another_normalisation(tmp_path: Path) -> None:
    model = trained()
    with pytest.raises(UsageError, match="own input normalisation"):
        load(save(tmp_path / "own.safetensors", model.architecture, model.state_dict()), normalise=HALF)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    model = trained()
    state = model.state_dict()
    state["stages.1.0.norm0.running_var"][2] = bad
    with pytest.raises(CheckpointError) as caught:
        load(save(tmp_path / "own.safetensors", model.architecture, state))
    assert r"stages.1.0.norm0.running_var" in caught.value.message
    assert caught.value.fix


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model = trained()
    state = model.state_dict()
    del state["stages.2.0.shortcut.conv.weight"]
    with pytest.raises(CheckpointError, match=r"stages\.2\.0\.shortcut\.conv\.weight"):
        load(save(tmp_path / "own.safetensors", model.architecture, state))


def test_metadata_that_speaks_against_the_tensors_is_refused(tmp_path: Path) -> None:
    state = trained().state_dict()
    with pytest.raises(CheckpointError, match="disagree"):
        load(save(tmp_path / "own.safetensors", build_description("spiking-resnet8", 3, width=8), state))


def test_a_description_that_is_not_known_is_refused(tmp_path: Path) -> None:
    model = trained()
    path = tmp_path / "own.safetensors"
    endless, loud = (
        {"depths": [10**9, 1, 1]},
        {"neuron": model.architecture.to_dict()["neuron"] | {"v_threshold": 1e300}},
    )
    for change in ({"kind": "quantum"}, {"depths": [0, 1, 1]}, {"novel": 1}, {"neuron": {"spin": 1}}, endless, loud):
        write_checkpoint(path, model.state_dict(), {"architecture": model.architecture.to_dict() | change})
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert caught.value.fix


def test_a_network_without_a_head_cannot_classify(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    path = tmp_path / "headless.pth"
    torch.save({key: value for key, value in theirs.items() if not key.startswith("fc.")}, path)
    with pytest.raises(CheckpointError, match="no linear layer"):
        load(path, normalise=HALF)


def test_double_precision_is_kept(tmp_path: Path) -> None:
    model = trained().double()
    with torch.no_grad():
        model.stem.get_parameter("conv.weight").add_(1e-12)
    own = load(save(tmp_path / "own.safetensors", model.architecture, model.state_dict()))
    theirs = {key: value for key, value in trained("resnet8").double().state_dict().items() if "input" not in key}
    torch.save(theirs, tmp_path / "theirs.pth")
    foreign = load(tmp_path / "theirs.pth", normalise=HALF, kind="ann")
    for found, state in ((own, model.state_dict()), (foreign, theirs)):
        for key, value in state.items():
            assert torch.equal(found.state_dict()[key], value)
            assert found.state_dict()[key].dtype == value.dtype
    assert own(images()).dtype == foreign(images()).dtype == torch.float64
    half = {key: value.half() for key, value in theirs.items()}
    torch.save(half, tmp_path / "half.pth")
    assert load(tmp_path / "half.pth", normalise=HALF, kind="ann")(images()).dtype == torch.float32


def test_a_variance_below_zero_is_refused_by_name(tmp_path: Path) -> None:
    """Its root is no number, and what BatchNorm makes of it are answers that mean nothing."""
    model = trained("resnet8")
    state = dict(model.state_dict())
    state["stages.1.0.norm0.running_var"] = state["stages.1.0.norm0.running_var"].clone()
    state["stages.1.0.norm0.running_var"][3] = -0.25
    path = save(tmp_path / "damaged.safetensors", model.architecture, state)
    with pytest.raises(CheckpointError, match=r"stages\.1\.0\.norm0\.running_var holds a variance of -0\.25"):
        load(path)
    with pytest.raises(MappingError, match=r"stages\.1\.0\.norm0\.running_var holds a variance of -0\.25"):
        idsnn_cli.initialize(path, "spiking-resnet8")


def test_kernels_of_eight_bits_are_the_values_that_they_stand_for(tmp_path: Path) -> None:
    model = trained("resnet8")
    state = {
        key: value.to(torch.float8_e4m3fn) if value.dim() == 4 else value for key, value in model.state_dict().items()
    }
    wanted = {key: value.to(torch.float32) if value.dim() == 4 else value for key, value in state.items()}
    found = load(save(tmp_path / "small.safetensors", model.architecture, state)).state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_a_network_of_one_channel_is_shown_the_mean_of_three(tmp_path: Path) -> None:
    grey = build(build_description("resnet8", 3, width=4).changed(in_channels=1), seed=0)
    path = save(tmp_path / "grey.safetensors", grey.architecture, grey.state_dict())
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    model = load(path)
    with torch.no_grad():
        assert torch.equal(model(images), model(images.mean(1, keepdim=True)))
        with pytest.raises(UsageError, match="images of 1 channel, and these have 2"):
            model(images[:, :2])


@pytest.mark.parametrize("metadata", [{"provenance": ["a"]}, {"data": "cifar10"}, {"metrics": {"loss": float("nan")}}])
def test_metadata_that_are_not_ours_are_refused(tmp_path: Path, metadata: dict[str, object]) -> None:
    model = trained("resnet8")
    path, kept = tmp_path / "odd.safetensors", {"format_version": 1, "architecture": model.architecture.to_dict()}
    save_file(dict(model.state_dict()), path, {"idsnn": json.dumps(kept | metadata)})
    with pytest.raises(CheckpointError, match="metadata"):
        load(path)
