"""What tools see that know layers by their types, hook them, or trace them (thop, ptflops, torch.fx)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.models import build

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet20": {},
    "resnet20 A": {"shortcut": "pad"},
    "resnet18 7x7": {"stem": "7x7"},
    "resnet50": {"stem": "7x7"},
    "resnet8 qcfs": {"activation": "qcfs", "levels": 4},
    "spiking-resnet20": {"timesteps": 3},
    "spiking-resnet18 sew": {"timesteps": 2, "spiking_block": "sew", "join": "add", "stem": "7x7"},
    "spiking-resnet18 ms": {"timesteps": 2, "spiking_block": "ms", "stem": "7x7"},
    "spiking-resnet50": {"timesteps": 2},
    "spiking-resnet20 learnt": {"timesteps": 2, "amplitude": "channel"},
}


def described(name: str) -> Architecture:
    return build_description(name.split()[0], 6, width=8, **NETWORKS[name])


def images(count: int = 2) -> Tensor:
    return torch.rand((count, 3, 32, 32), generator=torch.Generator().manual_seed(1))


def macs_by_hooks(model: nn.Module, x: Tensor) -> dict[str, int]:
    """As thop and ptflops count: a hook on each layer of torch's own type, outputs times what one takes."""
    found: dict[str, int] = {}
    handles = []
    for name, layer in model.named_modules():
        if type(layer) is not nn.Conv2d:  # exactly: a subclass is not in their tables
            continue

        def count(layer: nn.Module, _: Any, y: Tensor, name: str = name) -> None:
            assert isinstance(layer, nn.Conv2d)
            rows, columns = layer.kernel_size
            taken = layer.in_channels // layer.groups * int(rows) * int(columns)
            found[name] = found.get(name, 0) + y.numel() * taken

        handles.append(layer.register_forward_hook(count))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolution_is_counted_by_its_type(name: str) -> None:
    """The description's MACs of one image: times T, but for a stem that a repeated image passes once."""
    architecture = described(name)
    found = macs_by_hooks(build(architecture, 0).eval(), images(1))
    stem = architecture.stem_convolution()
    pools = NETWORKS[name].get("stem") == "7x7"
    stride, out = (2, 16) if pools else (1, 32)
    assert (stem.stride, found.pop(stem.name)) == (stride, out * out * stem.out_channels * 3 * stem.kernel**2)
    side = out // 2 if pools else out
    expected = {}
    for stage, block in architecture.blocks():
        at = side
        for conv in architecture.block_convolutions(stage, block):
            at //= conv.stride
            macs = at * at * conv.out_channels * conv.in_channels // conv.groups * conv.kernel**2
            expected[conv.name] = macs * architecture.timesteps
        projection = architecture.shortcut_convolution(stage, block)
        if projection is not None:
            macs = at * at * projection.out_channels * projection.in_channels
            expected[projection.name] = macs * architecture.timesteps
        side = at
    assert found == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_fx_traces_it(name: str) -> None:
    """Each convolution is a node of its own, and the graph computes the same in every bit, for any count of images."""
    model = build(described(name), 0).eval()
    traced = fx.symbolic_trace(model)
    for count in (1, 3):
        assert torch.equal(traced(images(count)), model(images(count)))
    nodes = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    convolutions = [each for each, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions
    assert set(convolutions) <= set(map(str, nodes))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_convolution_is_torchs(stride: int) -> None:
    """Its layer takes pixels before it multiplies; values, stride and what a hook sees are those of torch's own."""
    model = build(build_description("resnet20", 4, width=4), 0).double().eval()
    layer = model.get_submodule("stages.1.0.shortcut.conv" if stride == 2 else "stages.1.0.conv1")
    assert type(layer) is nn.Conv2d
    size, padding = (1, 0) if stride == 2 else (3, 1)
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, size, stride, padding, bias=False).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.rand((2, layer.in_channels, 9, 9), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)
    assert layer.stride == (stride, stride)
    assert layer.kernel_size == (size, size)
