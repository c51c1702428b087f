"""Networks that are only read: folded, and in bf16 with blocks that oneDNN computes at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from idsnn_cli.architecture import build_description
from idsnn_cli.models import build, place
from idsnn_cli.models.fixed import fixed
from idsnn_cli.networks.resnet.joined import JoinedBlock, joins
from idsnn_cli.networks.resnet.modules import ResidualBlock
from idsnn_cli.spiking import BatchNorm
from idsnn_cli.spiking.precision import computing

CPU = torch.device("cpu")
# oneDNN takes bf16 where a CPU has AVX-512 or AVX-NE-CONVERT; elsewhere blocks stay as they are.
ONEDNN: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("resnet8", {"stem": "3x3"}),
        ("resnet14", {"stem": "3x3", "shortcut": "pad"}),
        ("resnet50", {"stem": "7x7"}),
        ("preresnet20", {"stem": "3x3"}),
        ("vgg11", {}),
    ],
)
def test_a_fixed_network_gives_the_same_logits(name: str, traits: dict[str, Any]) -> None:
    """In float64, where folding rounds at 1e-16; with statistics and affine values that are not those of a new one."""
    preactivation = name.startswith("pre")
    description = build_description(name.removeprefix("pre"), 10, width=8, **traits)
    if preactivation:
        description = description.changed(preactivation=True, final_norm=True)
    model = build(description, seed=3)
    place(model, CPU, torch.float64)
    generator = torch.Generator().manual_seed(4)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5)
            assert "num_batches" not in key
    model.eval()
    images = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    read = fixed(model, torch.float64)
    with torch.no_grad():
        assert torch.allclose(read(images), model(images), rtol=1e-9, atol=1e-9)
    kept, all_of_them = (sum(type(each) is BatchNorm for each in network.modules()) for network in (read, model))
    assert kept == (all_of_them if preactivation else 0)


@pytest.mark.parametrize(
    ("name", "traits", "joined"),
    [
        ("resnet8", {"stem": "3x3"}, 3),
        ("resnet14", {"stem": "3x3", "shortcut": "pad"}, 6),
        ("resnet50", {"stem": "7x7"}, 16),
        ("resnet50", {"stem": "7x7", "groups": 32}, 0),
    ],
)
def test_joined_blocks_compute_what_layers_do(name: str, traits: dict[str, Any], joined: int) -> None:
    """A block of whole numbers that bf16 holds gives the same to the last bit; a network nearly the same logits, and
    what stands behind its stages."""
    model = build(build_description(name, 10, width=32, **traits), seed=3).eval()
    place(model, CPU, torch.float32)
    read = fixed(model, torch.bfloat16)
    assert sum(type(each) is JoinedBlock for each in read.modules()) == (joined if ONEDNN else 0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad(), computing("bf16", CPU):
        (given, maps), (wanted, others) = read.with_features(images), model.with_features(images)
    assert float((given - wanted).norm() / wanted.norm()) < 0.05
    for one, other in zip(maps, others, strict=True):
        assert float((one.float() - other.float()).norm() / other.float().norm()) < 0.05


@pytest.mark.skipif(not ONEDNN, reason="oneDNN takes no bf16 on this CPU")
@pytest.mark.parametrize("stride", [1, 2])
def test_a_joined_block_of_whole_numbers(stride: int) -> None:
    description = build_description("resnet8", 10, width=8, stem="3x3")
    network = fixed(build(description, seed=3), torch.float32)
    block = network.get_submodule(f"stages.{stride - 1}.0")
    assert isinstance(block, ResidualBlock)
    generator = torch.Generator().manual_seed(6)
    for each in block.modules():
        if isinstance(each, nn.Conv2d):
            each.weight.copy_(torch.randint(-1, 2, each.weight.shape, generator=generator))
            assert each.bias is not None
            each.bias.copy_(torch.randint(-1, 2, each.bias.shape, generator=generator))
    x = (torch.rand(2, 8, 6, 6, generator=generator) < 0.05).float()
    wanted = block(x)
    assert 0 < float(wanted.max()) < 256
    block.to(torch.bfloat16)
    assert joins(block)
    # In either order of a map's axes.
    for form in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(JoinedBlock(block)(x.to(torch.bfloat16, memory_format=form)).float(), wanted)


def test_what_is_no_number_stays_none() -> None:
    """oneDNN's ReLU gives 0 for it, and a teacher would teach as if nothing were."""
    model = build(build_description("resnet8", 10, width=8), seed=3).eval()
    with torch.no_grad():
        model.get_parameter("stages.1.0.conv0.weight")[0, 0, 0, 0] = float("nan")
    read = fixed(model, torch.bfloat16)
    with torch.no_grad(), computing("bf16", CPU):
        assert bool(read(torch.rand(2, 3, 32, 32)).isnan().all())


def test_without_the_calls_of_onednn_blocks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idsnn_cli.networks.resnet.joined._works", lambda: False)
    read = fixed(build(build_description("resnet8", 10, width=8), seed=3), torch.bfloat16)
    assert not any(type(each) is JoinedBlock for each in read.modules())
