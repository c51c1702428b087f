"""Re-estimated BatchNorm statistics against plain sums over hooks, and what is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sources import ann, spiking, values
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture
from idsnn_cli.initializer import reestimate
from idsnn_cli.models import Model, build
from idsnn_cli.spiking import BatchNorm


def network(architecture: Architecture) -> Model:
    model = build(architecture, seed=1).double()
    model.load_state_dict(values(architecture))
    return model.eval()


def images(count: int, seed: int) -> Tensor:
    return torch.rand((count, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BATCHES = [images(4, 0), images(6, 1), images(3, 2)]


def recorded(model: Model) -> tuple[dict[str, list[Any]], list[Any]]:
    """What each BatchNorm sees (mean and unbiased variance over its T * N * H * W values), batch by batch."""
    seen: dict[str, list[Any]] = {}

    def note(name: str, inputs: tuple[Any, ...]) -> None:
        maps = inputs[0].detach().numpy()
        repeat = inputs[1] if len(inputs) > 1 else 1
        per_channel = np.tile(maps, (repeat, 1, 1, 1)).transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
        seen.setdefault(name, []).append((per_channel.mean(1), per_channel.var(1, ddof=1)))

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm):
            handles.append(module.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs)))
    return seen, handles


@pytest.mark.parametrize("architecture", [spiking(8, 4), spiking(8, 4, coding="poisson"), ann(8, 4)])
def test_statistics_are_the_average_over_the_batches(architecture: Architecture) -> None:
    model = network(architecture)
    seen, handles = recorded(model)
    assert reestimate(model, BATCHES) == 3
    for handle in handles:
        handle.remove()
    norms = {name: module for name, module in model.named_modules() if isinstance(module, BatchNorm)}
    assert set(seen) == set(norms)
    for name, norm in norms.items():
        assert len(seen[name]) == 3
        assert norm.running_mean is not None
        assert norm.running_var is not None
        np.testing.assert_allclose(
            norm.running_mean.numpy(), np.mean([m for m, _ in seen[name]], 0), rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(norm.running_var.numpy(), np.mean([v for _, v in seen[name]], 0), rtol=1e-10)
        assert norm.num_batches_tracked == 0


def test_nothing_else_changes() -> None:
    model = network(spiking(8, 4))
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for i, norm in enumerate(norms):
        norm.momentum = 0.01 * i
    norms[2].train()  # one layer alone in another mode
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    reestimate(model, BATCHES)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert [norm.momentum for norm in norms] == [0.01 * i for i in range(len(norms))]
    assert all(norm.across_processes for norm in norms)
    for name, value in model.state_dict().items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_batches_leave_everything_as_it_was() -> None:
    model = network(spiking(8, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reestimate(model, []) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_a_failure_on_the_way_restores_everything() -> None:
    def failing() -> Iterator[Tensor]:
        yield BATCHES[0]
        raise OSError("the disk is gone")

    model = network(spiking(8, 4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(OSError, match="gone"):
        reestimate(model, failing())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(norm.momentum == 0.1 for norm in model.modules() if isinstance(norm, BatchNorm))
    assert model.training


def test_torchs_own_batchnorm_is_reestimated_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double().eval()
    reestimate(model, BATCHES)
    with torch.no_grad():
        maps = [model[0](batch) for batch in BATCHES]
    wanted = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(model[1].get_buffer("running_mean"), wanted)
