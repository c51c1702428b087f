"""The single-step form, ``model.step`` and ``model.reset``, beside that of T steps: repeated images and streams."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import nir
import pytest
import torch
from exchange_networks import NETWORKS, images, network, saved
from torch import Tensor

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.exchange.interpreter import Interpreter
from idsnn_cli.export.base import export
from idsnn_cli.models import Model, build, prolonged
from idsnn_cli.spiking import LIF, seed_encoders

OTHERS: dict[str, dict[str, Any]] = {
    "soft": {"neuron": Neuron(0.4, 0.8, reset="soft", start="half")},
    "learnt amplitudes": {"amplitude": "channel", "neuron": Neuron(0.6, 0.9, start="half")},
}


def case(name: str) -> Model:
    return network("thin", **OTHERS[name]) if name in OTHERS else network(name)


def spikes_of(model: Model) -> dict[str, list[Tensor]]:
    """Filled by every call from now on."""
    found: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, LIF):
            kept = found.setdefault(name, [])
            module.register_forward_hook(lambda *seen, kept=kept: kept.append(seen[2].detach()))
    return found


@pytest.mark.parametrize("name", [*NETWORKS, *OTHERS])
def test_t_steps_are_the_form_of_t_steps(name: str) -> None:
    """Every spike of every layer, and the logits; and again after a reset."""
    model = case(name)
    x, seen = images(3, 32, model.architecture.in_channels), spikes_of(model)
    with torch.no_grad():
        seed_encoders(model, 5)
        expected = model(x)
        whole = {layer: kept[0].view(model.timesteps, 3, *kept[0].shape[1:]) for layer, kept in seen.items()}
        for _ in range(2):
            for kept in seen.values():
                kept.clear()
            model.reset()
            seed_encoders(model, 5)
            found = torch.stack([model.step(x) for _ in range(model.timesteps)])
            torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
            for layer, kept in seen.items():
                assert torch.equal(torch.stack(kept), whole[layer]), layer
        # The form of T steps is as it was.
        seed_encoders(model, 5)
        assert torch.equal(model(x), expected)


def test_steps_go_on_beyond_t() -> None:
    model = network("thin")
    longer, x = prolonged(model, 7), images(2)
    with torch.no_grad():
        model.reset()
        found = torch.stack([model.step(x) for _ in range(7)])
        torch.testing.assert_close(found, longer(x), rtol=1e-13, atol=1e-13)


def test_a_forward_in_the_middle_leaves_the_stream_where_it_is() -> None:
    model, x = network("thin"), images(2)
    with torch.no_grad():
        whole = model(x)
        model.reset()
        found = [model.step(x)]
        assert torch.equal(model(images(3)[1:]), model(images(3)[1:]))
        found += [model.step(x) for _ in range(2)]
    torch.testing.assert_close(torch.stack(found), whole, rtol=1e-13, atol=1e-13)


def test_poisson_draws_go_on_as_calls_do() -> None:
    """T steps take the draws of one call, the next T those of the next call."""
    model, x = network("poisson"), images(2)
    with torch.no_grad():
        seed_encoders(model, 9)
        expected = [model(x) for _ in range(2)]
        seed_encoders(model, 9)
        for whole in expected:
            model.reset()
            found = torch.stack([model.step(x) for _ in range(model.timesteps)])
            torch.testing.assert_close(found, whole, rtol=1e-13, atol=1e-13)
        seed_encoders(model, 9)
        model.reset()
        for _ in range(model.timesteps + 1):
            model.step(x)
        assert not torch.equal(expected[0], expected[1])


def test_a_stream_of_frames_is_what_the_graph_computes(tmp_path: Path) -> None:
    """Other images at every step, against the NIR graph of the same network, run in numpy from the graph alone."""
    model = network("wide")
    export(saved(tmp_path, model), tmp_path / "x.nir", image_size=lambda: (32, 32))
    graph = Interpreter(nir.read(tmp_path / "x.nir"))
    frames = images(10).view(5, 2, 3, 32, 32)
    with torch.no_grad():
        for frame in frames:
            expected, _ = graph.step(model.input(frame).numpy())
            torch.testing.assert_close(model.step(frame), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*OTHERS, "thin"])
def test_gradients_through_steps_are_those_of_t_steps(name: str) -> None:
    model = case(name)
    x = images(2)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(x).square().sum(), parameters)
    model.reset()
    found = torch.autograd.grad(torch.stack([model.step(x) for _ in range(3)]).square().sum(), parameters)
    for first, second in zip(found, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)


def test_what_a_step_does_not_fit_is_refused() -> None:
    model = network("thin")
    with torch.no_grad():
        model.step(images(2))
        for other, words in ((images(3), r"maps \[3, 8, 32, 32\]"), (images(2, 16), r"\[2, 8, 16, 16\]")):
            with pytest.raises(UsageError, match=words) as caught:
                model.step(other)
            assert "model.reset()" in str(caught.value.fix)
        model.reset()
        model.step(images(3))
        with pytest.raises(UsageError, match="float32"):
            model.float().step(images(3).float())
    with pytest.raises(UsageError, match="training mode"):
        network("thin").train().step(images(2))
    partly = network("thin")
    partly.stages.train()
    with pytest.raises(UsageError, match="or a part of it, is in training mode"):
        partly.step(images(2))
    with pytest.raises(UsageError, match="an ANN has no time steps"):
        build(build_description("resnet8", 4, width=2), 0).eval().step(images(2).float())
    poisson = network("poisson")
    poisson.step(images(2))
    with pytest.raises(UsageError, match="the encoder is at"):
        poisson.step(images(3))


def test_a_step_that_fails_leaves_the_form_of_t_steps_alone() -> None:
    model = network("thin")
    with torch.no_grad():
        expected = model(images(2))
        with pytest.raises(UsageError):
            model.step(torch.zeros((2, 3, 32, 32), dtype=torch.uint8))
        assert not any(module.stepping for module in model.modules() if isinstance(module, LIF))
        assert torch.equal(model(images(2)), expected)


@pytest.mark.parametrize("name", ["thin", "poisson", "learnt decays", "ms"])
def test_a_copy_goes_on_from_where_its_model_is(name: str) -> None:
    """By copy.deepcopy and by pickle, with gradients wanted; neither hears of the other's next steps."""
    model, x = network(name), images(2)
    seed_encoders(model, 3)
    model.step(x)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    expected = [model.step(x).detach() for _ in range(2)]
    for each in copies:
        found = [each.step(x) for _ in range(2)]
        assert all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))
    model.reset()
    fresh = copy.deepcopy(model)
    assert all(module.state is None for module in fresh.modules() if isinstance(module, LIF))
