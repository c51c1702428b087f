"""VGGs, ANN and spiking: against a second implementation, as data, and where they cannot be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_vgg import GROUPS, naive_logits
from test_networks_against_naive import lively

from idsnn_cli import load, save
from idsnn_cli.architecture import (
    Architecture,
    Neuron,
    build_description,
    forward_macs,
    read_description,
    stage_sizes,
)
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.models import build, per_step

SOFT = Neuron(0.4, 0.6, "sigmoid", 4.0)
FIERY = Neuron(0.1, 0.8)


def vgg(name: str, classes: int = 5, width: int = 4, **options: Any) -> Architecture:
    return build_description(name, classes, width=width, **options)


CASES = {
    **{name: vgg(name) for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    "several linear layers": vgg("vgg11", head_widths=(9, 7)),
    "linear layers over pixels": vgg("vgg13", head_widths=(9, 7), head_side=2),
    **{f"spiking-vgg{depth}": vgg(f"spiking-vgg{depth}", timesteps=3) for depth in GROUPS},
    "another neuron": vgg("spiking-vgg16", timesteps=5, neuron=SOFT),
    "spikes through linear layers": vgg("spiking-vgg11", timesteps=4, neuron=FIERY, head_widths=(9, 7), head_side=2),
}


@pytest.mark.parametrize("architecture", CASES.values(), ids=CASES.keys())
def test_logits_are_those_of_a_loop_over_time(architecture: Architecture) -> None:
    model = lively(architecture).eval()
    images = torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        found = per_step(model(images))
    expected = torch.stack(naive_logits(architecture, model.state_dict(), images))
    assert expected.std(1).max() > 1e-3, "logits that are all alike would prove nothing"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", CASES.values(), ids=CASES.keys())
def test_the_description_is_what_the_module_is(architecture: Architecture, tmp_path: Path) -> None:
    model = build(architecture, seed=0)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == architecture.tensors()
    assert list(model.state_dict()) == list(architecture.tensors())
    assert architecture.parameters() == sum(value.numel() for value in model.parameters())
    assert read_description(architecture.to_dict()) == architecture
    assert architecture.changed() == architecture
    save(model, tmp_path / "own.safetensors")
    again = load(str(tmp_path / "own.safetensors"))
    assert again.architecture == architecture
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_it_costs_what_its_layers_do() -> None:
    # At 32 x 32, width 4, VGG-11: 3-4, 4-8, 8-16, 16-16, 16-32, 32-32, 32-32, 32-32, and a linear layer of 32 x 5.
    pixels = (
        (3, 4, 1024),
        (4, 8, 256),
        (8, 16, 64),
        (16, 16, 64),
        (16, 32, 16),
        (32, 32, 16),
        (32, 32, 4),
        (32, 32, 4),
    )
    macs = [9 * entry * out * places for entry, out, places in pixels]
    assert forward_macs(vgg("vgg11"), 32, 32) == sum(macs) + 160
    # Of four steps the first layer, which reads the image, is computed once.
    spiking = vgg("spiking-vgg11", timesteps=4)
    assert forward_macs(spiking, 32, 32) == macs[0] + 4 * (sum(macs[1:]) + 160)
    assert stage_sizes(spiking, 32, 32) == ((32, 32), (16, 16), (8, 8), (4, 4), (2, 2))
    more = spiking.changed(head_widths=(9, 7), head_side=2)
    assert forward_macs(more, 32, 32) == macs[0] + 4 * (sum(macs[1:]) + 9 * 32 * 4 + 7 * 9 + 7 * 5)


def test_names_count_the_layers_of_the_papers_networks() -> None:
    full = build_description("vgg16", 1000, width=None).changed(head_widths=(4096, 4096), head_side=7)
    # 138,365,992 of torchvision's vgg16_bn, less the biases of 13 convolutions, 4,224 channels in all.
    assert full.parameters() == 138_365_992 - 4_224
    assert (full.name, vgg("spiking-vgg19").name) == ("vgg16", "spiking-vgg19")
    assert full.describe().startswith(
        "VGG-16, convolutions 2-2-3-3-3, widths 64-128-256-512-512, linear layers of 4096"
    )


def test_spikes_reach_every_layer_but_the_first_and_those_behind_means() -> None:
    spiking = vgg("spiking-vgg11", timesteps=2)
    assert vgg("vgg11").reading_values() is None
    assert spiking.reading_values() == {"stem.conv", "head"}
    assert spiking.changed(coding="poisson").reading_values() == {"head"}
    assert spiking.changed(head_widths=(9,)).reading_values() == {"stem.conv", "hidden.0.linear"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem": "7x7"}, "stem is 7x7"),
        ({"shortcut": "pad"}, "shortcut is pad"),
        ({"spiking_block": "sew"}, "block is 'sew'"),
        ({"amplitude": "channel"}, "amplitude is 'channel'"),
        ({"neuron": Neuron(-1.0)}, "v_threshold is -1"),
        ({"head_widths": (0,)}, r"head_widths\[0\] is 0"),
        ({"head_side": 2}, "head_side is for"),
        ({"activation": "qcfs", "levels": 4}, "activation is qcfs"),
    ],
)
def test_what_no_spiking_vgg_is_built_from(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        vgg("spiking-vgg11", timesteps=2, **options)


def test_a_damaged_description_is_an_error() -> None:
    plain = vgg("vgg11").to_dict()
    odds: list[dict[str, Any]] = [
        {"depths": [0, 0, 2, 2, 2]},
        {"widths": [4]},
        {"depths": []},
        {"more": 1},
        {"head_widths": [-1]},
    ]
    for odd in odds:
        with pytest.raises(CheckpointError, match="not one that this version knows"):
            read_description({**plain, **odd})


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (8, 8)])
def test_images_that_the_pools_leave_nothing_of_are_refused(size: tuple[int, int]) -> None:
    architecture = vgg("spiking-vgg11", timesteps=2)
    with pytest.raises(UsageError, match=r"too small for a spiking-vgg11.* sides of 32 or more"):
        build(architecture, 0)(torch.rand(1, 3, *size))
    with pytest.raises(UsageError, match="too small"):
        forward_macs(architecture, *size)


def test_a_max_pool_of_spikes_is_a_spike_where_any_fired() -> None:
    model = lively(vgg("spiking-vgg16", timesteps=3)).eval()
    seen: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, torch.nn.MaxPool2d):
            module.register_forward_hook(lambda _m, inputs, output: seen.extend((inputs[0], output)))
    with torch.no_grad():
        model(torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert len(seen) == 2 * 5
    assert {float(value) for maps in seen for value in maps.flatten().tolist()} == {0.0, 1.0}


def test_gradients_reach_every_tensor() -> None:
    model = build(vgg("spiking-vgg13", timesteps=3, neuron=Neuron(0.05), head_widths=(9,)), seed=0).train()
    model(torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters())


def test_qcfs_activations_each_learn_a_threshold() -> None:
    model = build(vgg("vgg11", activation="qcfs", levels=4), seed=0)
    limits = [name for name in model.state_dict() if name.endswith(".limit")]
    assert len(limits) == 8
    model(torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))).sum().backward()
    each = vgg("vgg11", activation="qcfs", levels=4).changed(limits="channel").tensors()
    assert each["stages.1.0.act.limit"] == (8,)


@pytest.mark.parametrize("amplitude", ["folded", "folded-layer"])
def test_learnt_thresholds_are_all_in_norms_and_kernels(amplitude: str) -> None:
    """No shortcut keeps a scale, so that such a student is the network with spikes of 1."""
    plain = vgg("spiking-vgg13", timesteps=3)
    folded = plain.changed(amplitude=amplitude)
    assert folded.tensors() == plain.tensors()
    assert read_description(folded.to_dict()) == folded
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, other = lively(plain).eval(), lively(folded).eval()
    with torch.no_grad():
        assert torch.equal(model(images), other(images))
    with pytest.raises(UsageError, match="an ANN has no spikes"):
        vgg("vgg13").changed(amplitude=amplitude)
