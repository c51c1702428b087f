"""torch.export, torch.compile, torch.func, torch.jit and torch.fx on networks: what they make computes the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, grad, vmap

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.models import Model, build

jit_trace: Any = torch.jit.trace
# torch.jit and the tools around it say that they are old, and what they take for constants.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{each}")
    for each in ("FutureWarning", "DeprecationWarning", "torch.jit.TracerWarning")
]
NETWORKS: dict[str, dict[str, Any]] = {
    "spiking-resnet8": {"timesteps": 3},
    "spiking-resnet8 pad": {"timesteps": 2, "shortcut": "pad", "neuron": Neuron(0.4, 0.9, reset="soft", start="half")},
    "spiking-resnet18 7x7": {"timesteps": 2, "stem": "7x7"},
    "spiking-resnet50": {"timesteps": 2},
    "spiking-resnet8 sew": {"timesteps": 2, "spiking_block": "sew", "join": "iand"},
    "spiking-resnet8 ms": {"timesteps": 2, "spiking_block": "ms"},
    "spiking-resnet8 learnt": {"timesteps": 2, "amplitude": "channel"},
    "spiking-vgg11": {"timesteps": 2},
    "resnet8 qcfs": {"activation": "qcfs", "levels": 4},
    "resnet8": {},
}
FEW = ("spiking-resnet8", "resnet8 qcfs")


def network(name: str = "spiking-resnet8", **changed: Any) -> Model:
    """In float64, with norms that let spikes through."""
    arch, width = name.split()[0], 4
    model = build(build_description(arch, 5, width=width, **{**NETWORKS[name], **changed}), 3).double().eval()
    draws = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.bias.data.uniform_(-0.1, 0.4, generator=draws)
            module.running_var.uniform_(0.2, 1.0, generator=draws)
    return model


def images(count: int = 2, side: int = 32) -> Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(count), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in NETWORKS]
)
def test_torch_export_with_a_batch_of_any_size(name: str) -> None:
    """With parameters as load gives them, which ask for gradients; the same logits in every bit, or nearly."""
    model = network(name)
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    for count in (1, 3, 5):
        found, expected = program(images(count)), model(images(count))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert float(expected.detach().std()) > 1e-3


@pytest.mark.slow
def test_what_is_exported_can_be_trained() -> None:
    """The surrogate is in the program, so that its gradients are those of the network."""
    model, x = network(), images()
    program = torch.export.export(model, (x,)).module()
    model(x).square().sum().backward()
    program(x).square().sum().backward()
    theirs = dict(program.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(theirs[name].grad, parameter.grad, rtol=1e-9, atol=1e-12)
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in NETWORKS if "50" not in each])
def test_torch_compile_without_a_break(name: str) -> None:
    """Logits and gradients, the graph in one piece."""
    model, x = network(name), images()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected, found = model(x), compiled(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    own = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    theirs = torch.autograd.grad(found.square().sum(), list(model.parameters()))
    for first, second in zip(own, theirs, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_func(name: str) -> None:
    """Gradients by functional_call; logits and gradients of each sample by vmap."""
    model, x = network(name), images(3)
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(given: dict[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, (given, buffers), (x,))
        return logits.square().sum()

    def one(x: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, (parameters, buffers), (x[None],))
        return logits

    found = grad(loss)(parameters, x)
    own = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for key, expected in zip(parameters, own, strict=True):
        torch.testing.assert_close(found[key], expected, rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        each = torch.stack([model(sample[None]) for sample in x])
        torch.testing.assert_close(vmap(one)(x), each, rtol=1e-12, atol=1e-12)
    samples = vmap(grad(loss), in_dims=(None, 0))(parameters, x[:, None])
    own = torch.autograd.grad(model(x[1:2]).square().sum(), list(model.parameters()))
    for key, expected in zip(parameters, own, strict=True):
        torch.testing.assert_close(samples[key][1], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", FEW)
def test_a_trace_of_torch_jit_is_no_constant(name: str) -> None:
    model = network(name)
    with torch.no_grad():
        traced = jit_trace(model, images())
        for count in (1, 4):
            torch.testing.assert_close(traced(images(count)), model(images(count)), rtol=1e-12, atol=1e-12)


def test_torch_fx_on_what_is_in_training_raises() -> None:
    """BatchNorm counts what it sees, which no symbolic trace can."""
    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(network().train())


@pytest.mark.parametrize("record", [torch.export.export, lambda model, x: jit_trace(model, x[0])])
def test_poisson_coding_raises_where_a_graph_is_kept(record: Any) -> None:
    model = network("spiking-resnet8", coding="poisson")
    with pytest.raises(Exception, match="a graph would hold one draw for all"):
        record(model, (images(),))
