"""The learning rate against torch's schedulers, and who gets weight decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler

from idsnn_cli.architecture import build_description
from idsnn_cli.models import build
from idsnn_cli.recipe.schema import Training
from idsnn_cli.training import learning_rate, make_optimiser
from idsnn_cli.training.optimiser import set_rate

PER_EPOCH = 7


def torch_rates(scheduler_of: object, epochs: int, *, by_epoch: bool, lr: float = 0.1) -> list[float]:
    """The rate at every step of a torch scheduler that is stepped each batch, or each epoch."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = scheduler_of(optimiser)  # type: ignore[operator]  # a factory from the parametrisation
    rates = []
    for step in range(epochs * PER_EPOCH):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if not by_epoch or (step + 1) % PER_EPOCH == 0:
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("config", "scheduler_of", "by_epoch"),
    [
        (
            Training(epochs=9, lr=0.1, schedule="step", milestones=(2, 5), gamma=0.3),
            lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.3),
            True,
        ),
        (
            Training(epochs=9, lr=0.1, schedule="step", step_every=4),
            lambda o: lr_scheduler.StepLR(o, 4, 0.1),
            True,
        ),
        (
            Training(epochs=9, lr=0.1, schedule="cosine"),
            lambda o: lr_scheduler.CosineAnnealingLR(o, 9 * PER_EPOCH),
            False,
        ),
        (
            Training(epochs=9, lr=0.1, schedule="onecycle"),
            lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9 * PER_EPOCH, cycle_momentum=False),
            False,
        ),
        (Training(epochs=9, lr=0.1, schedule="constant"), lambda o: lr_scheduler.ConstantLR(o, 1.0), False),
    ],
)
def test_rates_are_those_of_torch(config: Training, scheduler_of: object, by_epoch: bool) -> None:
    ours = [learning_rate(config, step, PER_EPOCH) for step in range(9 * PER_EPOCH)]
    assert ours == pytest.approx(torch_rates(scheduler_of, 9, by_epoch=by_epoch), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("every", "drops"), [(0.5, [0, 0, 1, 1, 2, 2, 3, 3]), (0.75, [0, 0, 0, 1, 1, 1, 2, 2])])
def test_a_step_may_be_a_part_of_an_epoch(every: float, drops: list[int]) -> None:
    config = Training(epochs=2, lr=0.8, schedule="step", step_every=every, gamma=0.5)
    assert [learning_rate(config, step, 4) for step in range(8)] == [0.8 * 0.5**drop for drop in drops]


def test_warm_up_rises_to_the_full_rate_and_the_cosine_follows() -> None:
    config = Training(epochs=4, lr=0.8, schedule="cosine", warmup_epochs=1)
    rates = [learning_rate(config, step, PER_EPOCH) for step in range(4 * PER_EPOCH)]
    assert rates[:PER_EPOCH] == pytest.approx([0.8 * (i + 1) / PER_EPOCH for i in range(PER_EPOCH)])
    assert rates[PER_EPOCH] == pytest.approx(0.8)
    assert rates[PER_EPOCH:] == sorted(rates[PER_EPOCH:], reverse=True)
    # Half way between the end of the warm-up and the last step the cosine is at half.
    longer = Training(epochs=5, lr=0.8, schedule="cosine", warmup_epochs=1)
    assert learning_rate(longer, 3 * PER_EPOCH, PER_EPOCH) == pytest.approx(0.4)


def test_weight_decay_leaves_out_norms_and_biases_where_asked() -> None:
    model = build(build_description("resnet8", 10, width=4), 0)
    spared = make_optimiser(model, Training(weight_decay=0.1, decay_norm_and_bias=False))
    by_decay = {group["weight_decay"]: {id(p) for p in group["params"]} for group in spared.param_groups}
    flat = {id(p) for name, p in model.named_parameters() if "norm" in name or name.endswith("bias")}
    assert by_decay[0.0] == flat
    assert by_decay[0.1] == {id(p) for p in model.parameters()} - flat
    everything = make_optimiser(model, Training(weight_decay=0.1, optimizer="adamw", momentum=0.8))
    assert everything.defaults["betas"] == (0.8, 0.999)
    assert [group["weight_decay"] for group in everything.param_groups] == [0.1]
    assert isinstance(everything, torch.optim.AdamW)


def test_amplitudes_and_qcfs_limits_decay_with_norms_and_biases() -> None:
    """As in both releases of QCFS, whose optimisers are given every parameter with one weight decay."""
    student = build(build_description("spiking-resnet8", 10, width=4, amplitude="channel"), 0)
    teacher = build(build_description("resnet8", 10, width=4, activation="qcfs", levels=4), 0)
    for model, names in ((student, ".amplitude"), (teacher, ".limit")):
        learnt = {id(p) for name, p in model.named_parameters() if names in name}
        assert learnt
        (everything,) = make_optimiser(model, Training(weight_decay=0.1)).param_groups
        assert learnt <= {id(p) for p in everything["params"]}
        kernels, rest = make_optimiser(model, Training(weight_decay=0.1, decay_norm_and_bias=False)).param_groups
        assert learnt <= {id(p) for p in rest["params"]}
        assert (kernels["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_a_conversion_scaled_is_trained_as_if_it_had_not(optimizer: Any) -> None:
    """f(x) = b tanh(a x) with a = c p and with p in its place: the same products of the same steps, at every step."""
    config = Training(epochs=2, optimizer=optimizer, lr=0.05, weight_decay=0.1, decay_norm_and_bias=False)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(32, 4, generator=generator, dtype=torch.float64) for _ in range(2))

    def networks() -> list[nn.Sequential]:
        torch.manual_seed(1)
        return [nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)).double() for _ in range(2)]

    plain, scaled = networks()
    scales = {"0.weight": 3.0, "2.weight": 0.25, "0.bias": 5.0}
    with torch.no_grad():
        for own, other in zip(scaled.named_parameters(), plain.parameters(), strict=True):
            own[1].copy_(other * scales.get(own[0], 1.0))

    def unscaled(network: nn.Sequential) -> dict[str, torch.Tensor]:
        return {name: value / scales.get(name, 1.0) for name, value in network.named_parameters()}

    ours, theirs = make_optimiser(scaled, config, scales), make_optimiser(plain, config)
    # Adam's epsilon is added to gradients that the conversion made smaller.
    tolerance = 1e-12 if optimizer == "sgd" else 1e-5
    for step in range(8):
        for optimiser, values in ((ours, unscaled(scaled)), (theirs, dict(plain.named_parameters()))):
            set_rate(optimiser, learning_rate(config, step, 4))
            optimiser.zero_grad()
            hidden = torch.tanh(x @ values["0.weight"].T + values["0.bias"])
            torch.autograd.backward((hidden @ values["2.weight"].T + values["2.bias"] - y).square().mean())
            optimiser.step()
        for name, value in unscaled(scaled).items():
            torch.testing.assert_close(value, plain.get_parameter(name), rtol=tolerance, atol=tolerance)
    assert not torch.equal(plain.get_parameter("0.weight"), networks()[0].get_parameter("0.weight"))


def test_sgd_takes_the_momentum_of_the_recipe() -> None:
    model = build(build_description("resnet8", 10, width=4), 0)
    optimiser = make_optimiser(model, Training(momentum=0.7, nesterov=True))
    assert (optimiser.defaults["momentum"], optimiser.defaults["nesterov"]) == (0.7, True)


def test_a_gamma_without_steps_is_refused() -> None:
    assert Training(schedule="step", step_every=3, gamma=0.5).gamma == 0.5
    with pytest.raises(ValidationError, match="gamma is for schedule step, not cosine"):
        Training(schedule="cosine", gamma=0.5)
