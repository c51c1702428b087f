"""Loop interpolation against plain Python loops, and what applying a plan reads and refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import ann, plan_of, spiking, values
from torch import Tensor

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Entry, Plan, Rules, apply
from idsnn_cli.models import build

CPU = torch.device("cpu")


def entry(source: tuple[int, ...], target: tuple[int, ...], scale: float = 1.0) -> Entry:
    return Entry("target", target, "interpolated", "source", source, scale)


def gather(source: Tensor, wanted: Entry) -> Tensor:
    """What a plan of this one entry makes of ``source``."""
    plan = Plan(None, spiking(), Rules(), (), (wanted,))
    return apply(plan, {"source": source}.__getitem__, {"target": torch.zeros(wanted.shape)}, CPU)["target"]


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1, 3, 7]),
    st.sampled_from([1.0, 0.5, 1.3]),
)
def test_kernels(source: tuple[int, int], target: tuple[int, int], kernel: int, scale: float) -> None:
    weight = torch.randn((*source, kernel, kernel), generator=torch.Generator().manual_seed(1))
    found = gather(weight, entry(tuple(weight.shape), (*target, kernel, kernel), scale))
    assert found.shape == (*target, kernel, kernel)
    for o in range(target[0]):
        for i in range(target[1]):
            assert torch.equal(found[o, i], weight[o % source[0], i % source[1]] * scale)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20))
def test_vectors_and_the_normalisation(source: int, target: int) -> None:
    vector = torch.randn(source, generator=torch.Generator().manual_seed(2))
    wanted = [float(vector[c % source]) for c in range(target)]
    assert gather(vector, entry((source,), (target,))).tolist() == wanted
    column = gather(vector.view(-1, 1, 1), entry((source, 1, 1), (target, 1, 1)))
    assert column.shape == (target, 1, 1)
    assert column.flatten().tolist() == wanted


def test_scalars_and_copies_do_not_share_memory() -> None:
    source = torch.ones(3)
    found = gather(source, entry((3,), (3,)))
    found += 1
    assert source.tolist() == [1, 1, 1]
    assert gather(torch.tensor(5.0), entry((), ())) == 5


def test_other_axes_are_not_looped_over() -> None:
    with pytest.raises(MappingError) as caught:
        gather(torch.zeros(2, 2, 3, 3), entry((2, 2, 3, 3), (2, 2, 7, 7)))
    assert "source" in caught.value.message
    assert "target" in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(("source_width", "target_width"), [(4, 4), (6, 4), (4, 6), (5, 12)])
def test_every_tensor_is_what_its_entry_says(source_width: int, target_width: int) -> None:
    """The whole state dict against the source, written as loops over the canonical names."""
    source, target = ann(14, source_width), spiking(8, target_width)
    state, start = values(source), build(target, seed=3).state_dict()
    plan = plan_of(source, target)
    found = apply(plan, state.__getitem__, start, CPU)
    assert list(found) == list(target.tensors())
    for item in plan.entries:
        value = found[item.target]
        assert value.dtype == start[item.target].dtype
        if item.source is None:
            assert torch.equal(value, start[item.target])
            continue
        taken = state[item.source]
        sizes = taken.shape
        for index in () if not sizes else torch.cartesian_prod(*(torch.arange(n) for n in item.shape[:2])):
            at = tuple(index.flatten().tolist()) if isinstance(index, Tensor) else ()
            assert torch.equal(value[at], taken[tuple(i % n for i, n in zip(at, sizes, strict=False))])


def test_the_variance_rule_scales_every_kernel_and_nothing_else() -> None:
    """W' * sqrt(O k^2 / (O' k'^2))."""
    source, target = ann(8, 6), spiking(8, 4)
    state, start = values(source), build(target, seed=3).state_dict()
    plain = apply(plan_of(source, target), state.__getitem__, start, CPU)
    scaled = apply(plan_of(source, target, rescale="variance"), state.__getitem__, start, CPU)
    kernels = [name for name in plain if plain[name].dim() == 4]
    assert len(kernels) == 1 + 6 + 2
    for name, value in plain.items():
        wanted = value * math.sqrt(state[name].shape[0] / value.shape[0]) if name in kernels else value
        torch.testing.assert_close(scaled[name], wanted, rtol=1e-6, atol=0)
    assert scaled["stem.conv.weight"].std() > plain["stem.conv.weight"].std()


def test_only_planned_tensors_are_read_and_each_entry_once() -> None:
    source, target = ann(20, 4), spiking(8, 4)
    state, asked = values(source), []

    def read(key: str) -> Tensor:
        asked.append(key)
        return state[key]

    plan = plan_of(source, target, blocks="first")
    apply(plan, read, build(target, seed=0).state_dict(), CPU)
    assert sorted(asked) == plan.reads()
    assert not any(key.startswith("head.") or key.endswith("num_batches_tracked") for key in asked)
    # The first rule leaves the second and third block of every stage alone.
    assert {key.split(".")[2] for key in asked if key.startswith("stages.")} == {"0"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_source_that_is_not_finite_is_refused(bad: float) -> None:
    source, target = ann(), spiking()
    state = values(source)
    state["stages.1.0.norm1.running_var"][3] = bad
    with pytest.raises(MappingError) as caught:
        apply(plan_of(source, target), state.__getitem__, build(target, seed=0).state_dict(), CPU)
    assert "stages.1.0.norm1.running_var" in caught.value.message
    assert caught.value.fix


def test_a_bad_value_in_a_tensor_that_is_not_taken_does_not_matter() -> None:
    source, target = ann(), spiking()
    state = values(source)
    state["head.weight"][0, 0] = math.nan
    found = apply(plan_of(source, target), state.__getitem__, build(target, seed=0).state_dict(), CPU)
    assert all(torch.isfinite(value).all() for value in found.values())


def test_a_double_source_too_large_for_floats_is_refused() -> None:
    source, target = ann(), spiking()
    state = {name: value.double() for name, value in values(source).items()}
    state["stem.conv.weight"][0, 0, 0, 0] = 1e300
    with pytest.raises(MappingError, match=r"stem\.conv\.weight"):
        apply(plan_of(source, target), state.__getitem__, build(target, seed=0).state_dict(), CPU)


def test_axes_of_one_are_dropped_and_other_shapes_refused() -> None:
    source, target = ann(), spiking()
    plan = plan_of(source, target, head="copy")
    state, start = values(source), build(target, seed=0).state_dict()
    as_convolution = {**state, "head.weight": state["head.weight"][:, :, None, None]}
    found = apply(plan, as_convolution.__getitem__, start, CPU)
    assert torch.equal(found["head.weight"], state["head.weight"])
    transposed = {**state, "head.weight": state["head.weight"].t()}
    with pytest.raises(MappingError, match=r"head\.weight"):
        apply(plan, transposed.__getitem__, start, CPU)


def test_half_precision_sources_become_floats() -> None:
    source, target = ann(), spiking()
    state = {name: value.half() if value.is_floating_point() else value for name, value in values(source).items()}
    found = apply(plan_of(source, target), state.__getitem__, build(target, seed=0).state_dict(), CPU)
    assert found["stem.conv.weight"].dtype == torch.float32
    assert torch.equal(found["stem.conv.weight"], state["stem.conv.weight"].float())


def test_applying_changes_neither_source_nor_start() -> None:
    source, target = ann(), spiking()
    state, start = values(source), build(target, seed=0).state_dict()
    before = {name: value.clone() for name, value in (*state.items(), *((f"start.{n}", v) for n, v in start.items()))}
    found = apply(plan_of(source, target), state.__getitem__, start, CPU)
    for value in found.values():
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in state.items())
    assert all(torch.equal(value, before[f"start.{name}"]) for name, value in start.items())
