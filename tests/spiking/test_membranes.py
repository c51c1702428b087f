"""Sums of membranes and what reads them: the loops of numba and the plain layers against equations in float64."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.models import build
from idsnn_cli.spiking import LIF, BatchNorm, add_normed, fire, fire_membranes, lif_reference
from idsnn_cli.spiking.kernels import SWITCH, forget
from idsnn_cli.spiking.membranes import _takes_activation, _takes_sum
from idsnn_cli.spiking.qcfs import QCFS

FULL = Neuron(v_threshold=0.5, decay=1.0, reset="soft", start="half", reset_gradient="full")
GAINS = {"none": None, "layer": torch.tensor([1.75]), "channel": torch.linspace(0.5, 1.5, 16)}


def maps_of(seed: int, dtype: torch.dtype, images: int = 8) -> Tensor:
    drawn = torch.randn(images, 16, 6, 6, generator=torch.Generator().manual_seed(seed))
    # Numbers that bf16 holds, in every dtype.
    return drawn.bfloat16().to(dtype).to(memory_format=torch.channels_last)


def of_neurons(x: Tensor, gain: Tensor | None, grad: Tensor, neuron: Neuron) -> list[Tensor]:
    """Spikes, and the gradients of the sum and of the gain, by the reference neuron under autograd."""
    given = x.clone().requires_grad_()
    by = None if gain is None else gain.to(x.dtype).requires_grad_()
    current = given if by is None else given * by.view(-1, 1, 1)
    y = lif_reference(current.view(2, 4, *x.shape[1:]), neuron).flatten(0, 1)
    torch.autograd.backward(y, grad)
    return [each for each in (y.detach(), given.grad, None if by is None else by.grad) if each is not None]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("neuron", [Neuron(), FULL], ids=["hard", "full"])
def test_a_gain_is_a_threshold_over_it(neuron: Neuron, gain: str, dtype: torch.dtype) -> None:
    """In bf16 the loops give the spikes of float64, for a gain is not rounded to bf16."""
    x, grad, by = maps_of(1, torch.float64), maps_of(2, torch.float64), GAINS[gain]
    wanted = of_neurons(x, by, grad, neuron)
    given = x.to(dtype).requires_grad_()
    learnt = None if by is None else by.clone().requires_grad_()
    act = LIF(neuron, 2)
    assert _takes_activation(act, given, learnt) is (dtype == torch.bfloat16)
    y, _ = fire_membranes(act, given, learnt)
    torch.autograd.backward(y, grad.to(dtype))
    found = [each for each in (y, given.grad, None if learnt is None else learnt.grad) if each is not None]
    assert y.dtype == dtype
    assert torch.equal(found[0].double(), wanted[0])
    for got, right in zip(found[1:], wanted[1:], strict=True):
        bound = 1e-12 if dtype == torch.float64 and got.dtype == dtype else 1e-2
        assert float((got - right).norm() / right.norm()) < bound
    # theta over the gain, as the words are.
    if gain == "layer" and by is not None and neuron.reset == "soft":
        other = replace(neuron, v_threshold=neuron.v_threshold / float(by))
        assert torch.equal(lif_reference(x.view(2, 4, *x.shape[1:]), other).flatten(0, 1), wanted[0])


@pytest.mark.parametrize("gain", GAINS)
def test_qcfs_of_a_sum(gain: str) -> None:
    by = GAINS[gain]
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        act = QCFS(4)
        with torch.no_grad():
            act.limit.fill_(1.5)
        given = maps_of(3, dtype).requires_grad_()
        learnt = None if by is None else by.clone().requires_grad_()
        y, _ = fire_membranes(act, given, learnt)
        torch.autograd.backward(y, maps_of(4, dtype))
        found.append([y.detach(), given.grad, act.limit.grad, *([] if learnt is None else [learnt.grad])])
    for wanted, got in zip(*found, strict=True):
        assert wanted is not None
        assert got is not None
        assert float((got - wanted).norm() / wanted.norm()) < 1e-2


@pytest.mark.parametrize(
    "act",
    [LIF(FULL, 2), LIF(Neuron(), 2), LIF(FULL, 1), LIF(Neuron(), 8), QCFS(4)],
    ids=["full", "hard", "full at T = 1", "hard at T = 8", "qcfs"],
)
@pytest.mark.parametrize("reads", ["both", "around", "activation"])
def test_what_else_reads_the_membranes_has_its_gradient_added(act: torch.nn.Module, reads: str) -> None:
    """Once, whichever of the two is read, and rounded once: bf16's half unit in the last place of the exact sum."""
    act, gain = copy.deepcopy(act), torch.tensor([1.25]).requires_grad_()
    if isinstance(act, QCFS):
        with torch.no_grad():
            act.limit.fill_(1.5)
    apart = {}
    for name, grad in (("activation", maps_of(8, torch.bfloat16)), ("around", maps_of(9, torch.bfloat16))):
        given = maps_of(10, torch.bfloat16).requires_grad_()
        pair = dict(zip(("activation", "around"), fire_membranes(act, given, gain), strict=True))
        assert torch.equal(pair["around"], given)
        torch.autograd.backward(pair[name], grad)
        assert given.grad is not None
        apart[name] = given.grad.double()
    assert torch.equal(apart["around"], maps_of(9, torch.float64))
    of_gain, gain = gain.grad, gain.detach().requires_grad_()
    given = maps_of(10, torch.bfloat16).requires_grad_()
    y, around = fire_membranes(act, given, gain)
    read = {"activation": (y, maps_of(8, torch.bfloat16)), "around": (around, maps_of(9, torch.bfloat16))}
    taken = [*read] if reads == "both" else [reads]
    torch.autograd.backward([read[name][0] for name in taken], [read[name][1] for name in taken])
    assert given.grad is not None
    wanted = torch.stack([apart[name] for name in taken]).sum(0)
    # The activation's own gradient was rounded when it came alone.
    bound = (wanted.abs() + apart["activation"].abs()) * 2**-8 * 1.01
    assert bool(((given.grad.double() - wanted).abs() <= bound).all())
    if "activation" in taken:
        assert of_gain is not None
        assert gain.grad is not None
        assert torch.equal(gain.grad, of_gain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_maps_of_no_whole_number_of_steps_are_refused(dtype: torch.dtype) -> None:
    """With the loops too, which would leave the last ones as they found them."""
    x = maps_of(1, dtype)[:5]
    for call in (lambda act: fire_membranes(act, x), lambda act: fire(BatchNorm(16), act, x)):
        with pytest.raises(UsageError, match="5 maps, which is no multiple of T"):
            call(LIF(FULL, 4))


def test_the_sum_is_rounded_once() -> None:
    """norm(x) + residual, its gradients and the running statistics, in bf16 by the loops and in float64 as written."""
    norm = BatchNorm(16)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, 16))
        norm.bias.copy_(torch.linspace(-0.5, 0.5, 16))
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        own = copy.deepcopy(norm).to(torch.float64 if dtype == torch.float64 else torch.float32)
        given, added = maps_of(5, dtype).requires_grad_(), maps_of(6, dtype).requires_grad_()
        assert _takes_sum(own, given, added) is (dtype == torch.bfloat16)
        y = add_normed(own, given, added)
        torch.autograd.backward(y, maps_of(7, dtype))
        gradients = [given.grad, added.grad, own.weight.grad, own.bias.grad]
        found.append([y.detach(), own.running_mean, own.running_var, *gradients])
    wide, half = found
    assert wide[0] is not None
    assert half[0] is not None
    # bf16 has eight bits: half a unit in the last place, and a little of float32's rounding.
    assert bool(((half[0].double() - wide[0]).abs() <= wide[0].abs() * 2**-8 * 1.01 + 1e-6).all())
    for wanted, got in zip(wide[1:], half[1:], strict=True):
        assert wanted is not None
        assert got is not None
        assert float((got - wanted).norm() / wanted.norm()) < 1e-2


def test_hooks_smooth_surrogates_and_the_switch_leave_it_to_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, norm, act = maps_of(1, torch.bfloat16), BatchNorm(16), LIF(FULL, 2)
    smooth = LIF(replace(Neuron(), surrogate="sigmoid", surrogate_scale=4.0), 2)
    asked = x.clone().requires_grad_()
    assert _takes_activation(act, asked, None)
    assert not _takes_activation(smooth, asked, None)
    assert _takes_activation(smooth, x, None)
    assert not _takes_activation(act, x.contiguous(), None)
    assert not _takes_activation(torch.nn.ReLU(), x, None)
    handle = act.register_forward_hook(lambda *_: None)
    assert not _takes_activation(act, asked, None)
    handle.remove()
    handle = norm.register_forward_hook(lambda *_: None)
    assert not _takes_sum(norm, asked, x)
    handle.remove()
    assert _takes_sum(norm, asked, x)
    monkeypatch.setenv(SWITCH, "0")
    forget()
    try:
        assert not _takes_activation(act, asked, None)
        assert not _takes_sum(norm, asked, x)
    finally:
        monkeypatch.undo()
        forget()


@pytest.mark.parametrize("amplitude", ["folded", "folded-layer"])
def test_a_network_with_gains_is_one_of_other_thresholds(amplitude: str) -> None:
    """Each neuron that reads a sum replaced by one of threshold theta / gain, without the gain: the same logits."""
    neuron = Neuron(1.0, 1.0, reset="soft", start="half")
    options = {"width": 4, "timesteps": 3, "neuron": neuron, "shortcut": "pad", "spiking_block": "ms"}
    model = build(build_description("spiking-resnet14", 5, amplitude=amplitude, **options), 0).double().eval()
    gains = {name: value.detach() for name, value in model.named_parameters() if "gain" in name}
    assert len(gains) == 6 + 1
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in gains.values():
            # One of all channels, for a layer of neurons here has one threshold.
            value.fill_(float(torch.rand((), generator=generator)) + 0.5)
    plain = build(model.architecture.changed(amplitude="one"), 0).double().eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name not in gains})
    for name, value in gains.items():
        layer = plain.get_submodule(name.removesuffix("gain.weight") + ("act" if name.startswith("final") else "act0"))
        assert isinstance(layer, LIF)
        layer.neuron = replace(neuron, v_threshold=neuron.v_threshold / float(value.flatten()[0]))
    x = torch.rand((4, 3, 12, 12), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(model(x), plain(x), rtol=0, atol=1e-12)
        assert model(x).std() > 0.01
