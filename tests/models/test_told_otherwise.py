"""What a file tells beside the weights of a network: settings, a normalisation, tensors that stand beside it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import HALF
from plain_resnet import Normalised, plain
from safetensors.torch import save_file
from torch import Tensor

from idsnn_cli import initialize, load
from idsnn_cli.errors import CheckpointError, FamilyError, IdsnnError, UsageError
from idsnn_cli.families import BOTTLENECK_STRIDE
from idsnn_cli.models.identify import identify
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint

IMAGES = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(1))
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


SETTINGS: dict[str, dict[str, Any]] = {
    "hyper_parameters.act": {"hyper_parameters": {"act": "silu", "lr": 0.1}},
    "args.activation": {"args": argparse.Namespace(activation="LeakyReLU", epochs=3)},
    "config.model.act_layer": {"config": {"model": {"act_layer": "torch.nn.GELU"}}},
    "hidden_act": {"hidden_act": "gelu"},
    "arch": {"arch": "resnetblur18"},
    "hyper_parameters.model_name": {"hyper_parameters": {"model_name": "resnet20_swish"}},
    "hyper_parameters.bn_eps": {"hyper_parameters": {"bn_eps": 1e-3}},
    "args.output_stride": {"args": {"output_stride": 8}},
    "args.replace_stride_with_dilation": {"args": {"replace_stride_with_dilation": [False, True]}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_another_network_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "net.pth", {"state_dict": plain().state_dict(), **SETTINGS[name]})
    for read in (lambda: load(path, normalise=HALF), lambda: initialize(path, "spiking-resnet8")):
        with pytest.raises(FamilyError, match=f"its setting '{name.replace('.', '[.]')}' says"):
            read()


def test_settings_of_a_usual_network_change_nothing(tmp_path: Path) -> None:
    theirs = plain()
    usual = {
        "arch": "resnet8_relu",
        "hyper_parameters": {"act": "nn.ReLU", "bn_eps": 1e-5, "eps": 1e-8, "optimizer": "mish"},
        "args": argparse.Namespace(activation="relu", replace_stride_with_dilation=None, output_stride=32),
    }
    found = load(
        save(tmp_path / "net.pth", {"state_dict": theirs.state_dict(), **usual}), normalise=((0.0,) * 3, (1.0,) * 3)
    )
    with torch.no_grad():
        torch.testing.assert_close(found(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("named", ["folder", "file"])
def test_the_config_beside_a_model_is_read(named: str, tmp_path: Path) -> None:
    save_file({key: value.contiguous() for key, value in plain().state_dict().items()}, tmp_path / "model.safetensors")
    path = tmp_path if named == "folder" else tmp_path / "model.safetensors"
    for content in ("{", "[]", json.dumps({"hidden_act": "relu"})):
        (tmp_path / "config.json").write_text(content)
        load(path, normalise=HALF)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "hidden_act": "silu"}))
    with pytest.raises(FamilyError, match=r"its setting 'config\.json\.hidden_act' says 'silu'"):
        load(path, normalise=HALF)


@pytest.mark.parametrize(("told", "stride"), [(True, "1x1"), (False, "3x3")])
def test_transformers_config_tells_where_bottlenecks_stride(told: bool, stride: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = {"embedding_size": 4, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "bottleneck"}
    settings = transformers.ResNetConfig(**shape, downsample_in_bottleneck=told, num_labels=4)
    theirs = transformers.ResNetForImageClassification(settings).eval()
    theirs.save_pretrained(tmp_path)
    from idsnn_cli.checkpoint import open_checkpoint

    with open_checkpoint(tmp_path) as file:
        network = identify(file)
    assert network.architecture.traits()["bottleneck_stride"] == stride
    assert BOTTLENECK_STRIDE not in network.unknown
    with torch.no_grad():
        images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(
            load(tmp_path, normalise=HALF)(images), theirs((images - 0.5) / 0.25).logits, rtol=1e-4, atol=1e-5
        )


WAYS: dict[str, Callable[[str], str]] = {
    "module": lambda key: key if key.startswith("net.") else f"normalize.{key}",
    "Sequential": lambda key: key.replace("net.", "1.") if key.startswith("net.") else f"0.{key}",
    "root": lambda key: key.removeprefix("net."),
    "mu and sigma": lambda key: {"mean": "mu", "std": "sigma"}.get(key, key),
    "wrapped": lambda key: f"state_dict.module.{key}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_normalisation_among_the_tensors_is_the_networks(way: str, tmp_path: Path) -> None:
    theirs = Normalised(plain(), MEAN, STD).eval()
    path = save(tmp_path / "net.pth", {WAYS[way](key): value for key, value in theirs.state_dict().items()})
    found = load(path)
    with torch.no_grad():
        torch.testing.assert_close(found(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-4)
    assert "its input normalisation is that of" in str(describe_checkpoint(path).choice)
    start = initialize(path, "spiking-resnet8")
    assert start.state["input.mean"].flatten().tolist() == pytest.approx(MEAN)
    assert not start.normalisation_given
    with pytest.raises(UsageError, match="carries its own input normalisation"):
        load(path, normalise=HALF)


def test_a_whole_module_that_normalises_keeps_it(tmp_path: Path) -> None:
    theirs = Normalised(plain(channels=1), [0.3], [0.4]).eval()
    found = load(save(tmp_path / "net.pth", theirs))
    with torch.no_grad():
        torch.testing.assert_close(found(IMAGES[:, :1]), theirs(IMAGES[:, :1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("mean", "std", "kind", "words"),
    [
        ([103.5, 116.3, 123.7], [57.0, 57.0, 58.0], FamilyError, "means up to 123.7"),
        (MEAN, [0.2, 0.0, 0.2], CheckpointError, "'std' holds a deviation of 0"),
        ([0.4, float("nan"), 0.4], STD, CheckpointError, "mean holds values that are no finite numbers"),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(
    mean: list[float], std: list[float], kind: type[IdsnnError], words: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "net.pth", Normalised(plain(), mean, std).state_dict())
    with pytest.raises(kind, match=words):
        load(path)


def test_of_two_normalisations_the_root_says_which(tmp_path: Path) -> None:
    mine, other = Normalised(plain(), MEAN, STD), Normalised(plain(), STD, MEAN)
    both = {
        f"{name}.{key}": value for name, net in (("a", mine), ("b", other)) for key, value in net.state_dict().items()
    }
    path = save(tmp_path / "net.pth", both)
    with pytest.raises(FamilyError, match="is another"):
        load(path)
    with torch.no_grad():
        torch.testing.assert_close(load(path, root="b")(IMAGES), other.eval()(IMAGES), rtol=1e-4, atol=1e-4)


def test_what_stands_beside_the_network_is_named(tmp_path: Path) -> None:
    state: dict[str, Tensor] = {f"model.{key}": value for key, value in plain().state_dict().items()}
    usual = save(tmp_path / "usual.pth", {"state_dict": state, "optimizer": {"state": torch.ones(2)}})
    assert describe_checkpoint(usual).choice is None
    scaled = save(tmp_path / "scaled.pth", state | {"temperature": torch.ones(1)})
    assert "1 tensor stands beside the network and is not read: 'temperature'" in str(
        describe_checkpoint(scaled).choice
    )
