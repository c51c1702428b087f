"""What applying a plan holds, looks at and hands out."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from sources import ann, plan_of, spiking, values
from torch import Tensor

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Findings, Plan, Rules, apply, make_plan
from idsnn_cli.initializer.kernels import fold
from idsnn_cli.models import first_state

CPU = torch.device("cpu")


def made(plan: Plan, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return apply(plan, state.__getitem__, first_state(plan.target, 3), CPU)


def test_each_source_tensor_is_read_once_and_let_go_after_its_last_use() -> None:
    """A deeper target repeats blocks, so one source tensor has several uses."""
    plan = plan_of(ann(14, 4), spiking(32, 4))
    state, alive, most = values(ann(14, 4)), dict[str, weakref.ref[Tensor]](), 0

    def read(key: str) -> Tensor:
        nonlocal most
        assert key not in alive
        value = state[key].clone()
        alive[key] = weakref.ref(value)
        most = max(most, sum(each() is not None for each in alive.values()))
        return value

    apply(plan, read, first_state(plan.target, 0), CPU)
    assert sorted(alive) == plan.reads()
    # The five tensors of two convolutions and their norms, and those of a projection.
    assert most <= 15 < len(alive)


def test_channels_and_taps_that_are_not_taken_may_be_anything() -> None:
    source, target = ann(8, 6, stem="7x7"), spiking(8, 4)
    state = values(source)
    wanted = made(plan_of(source, target), state)
    state["stages.0.0.conv1.weight"][5] = math.nan
    state["stages.0.0.conv1.weight"][:, 4] = math.inf
    state["stem.conv.weight"][:, :, 0] = math.nan
    found = made(plan_of(source, target), state)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["conv0.weight", "norm0.weight", "norm0.running_var", "conv1.weight"])
def test_a_folded_value_that_is_not_finite_is_named(part: str, bad: float) -> None:
    source, target = ann(50, 4), spiking(18, 4)
    state = values(source)
    state[f"stages.0.0.{part}"].view(-1)[0] = bad
    with pytest.raises(MappingError, match=rf"stages\.0\.0\.{part} holds NaN or infinite"):
        made(plan_of(source, target), state)


@pytest.mark.parametrize(("depth", "channels"), [(50, "loop"), (18, "merge")])
def test_a_variance_below_zero_is_named_where_it_is_only_folded_or_merged(depth: int, channels: str) -> None:
    source = ann(depth, 8)
    names = {name: name for name in source.tensors()}
    alike = {name: torch.eye(count) for name, count in source.streams().sizes.items()}
    plan = make_plan(source, spiking(18, 4), names, Rules(channels=channels), Findings(correlations=alike))
    state = values(source)
    state["stages.0.0.norm0.running_var"][1] = -1e-7  # with eps its root is a number
    with pytest.raises(MappingError, match=r"stages\.0\.0\.norm0\.running_var holds a variance of -1e-07"):
        made(plan, state)


def test_finite_values_that_overflow_on_the_way_are_refused() -> None:
    source, target = ann(50, 4), spiking(18, 4)
    state = values(source)
    for part in ("conv0.weight", "conv1.weight"):
        state[f"stages.0.0.{part}"].fill_(3e38)
    with pytest.raises(MappingError, match="on the way"):
        made(plan_of(source, target), state)


@pytest.mark.parametrize("stem", ["3x3", "7x7"])
def test_every_result_is_row_major_in_memory_of_its_own(stem: str) -> None:
    source, target = ann(50, 8, stem="7x7"), spiking(18, 6, stem=stem)
    state = values(source)
    found = made(plan_of(source, target), state)
    theirs = {value.untyped_storage().data_ptr() for value in state.values()}
    ours = [value.untyped_storage().data_ptr() for value in found.values() if value.numel()]
    assert not theirs & set(ours)
    assert len(set(ours)) == len(ours)
    for name, value in found.items():
        assert value.is_contiguous()
        assert value.shape == target.tensors()[name]


def test_a_fold_of_many_pieces_is_the_product_of_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator) for shape in ((40, 300, 1, 1), (500, 40, 3, 3)))
    expected = torch.einsum("omhw,mi->oihw", second.double(), first[:, :, 0, 0].double())
    torch.testing.assert_close(fold(first, second, 1).double(), expected, rtol=1e-4, atol=1e-4)
