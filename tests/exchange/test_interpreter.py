"""The interpreter of NIR graphs against torch's layers and NIR's equations, node by node, and what it refuses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.errors import CheckpointError
from idsnn_cli.exchange.interpreter import Interpreter

DT = 1e-4


def chain(*nodes: Any, shape: tuple[int, ...] = (4, 9, 7), more: Any = None) -> nir.NIRGraph:
    """A graph of nodes one behind the other, not checked."""
    named = {"input": nir.Input({"input": np.array(shape)}), **{f"n{i}": node for i, node in enumerate(nodes)}}
    named["output"] = nir.Output({"output": np.array([1])})
    names = list(named)
    return nir.NIRGraph(named, [*pairwise(names), *(more or [])], type_check=False)


def draws(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.sampled_from([1, 2, 4]))
def test_convolutions_are_torchs(kernel: int, stride: int, padding: int, groups: int) -> None:
    weight, bias, x = draws(8, 4 // groups, kernel, kernel), draws(8, seed=1), draws(2, 4, 9, 7, seed=2)
    node = nir.Conv2d((9, 7), weight, stride, padding, 1, groups, bias)
    found, spikes = Interpreter(chain(node)).step(x)
    given_x, given_weight, given_bias = (torch.from_numpy(each) for each in (x, weight, bias))
    expected = torch.nn.functional.conv2d(
        given_x, given_weight, given_bias, stride=stride, padding=padding, groups=groups
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-12)
    assert spikes == {}


def test_means_flattening_and_linear_layers_are_torchs() -> None:
    weight, bias, x = draws(5, 24), draws(5, seed=1), draws(3, 4, 9, 7, seed=2)
    pool = nir.AvgPool2d(np.array((3, 3)), np.array((3, 3)), np.array((0, 0)))
    flat = nir.Flatten({"input": np.array((4, 3, 2))}, -3, -1)
    maps = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 3).flatten(1)
    expected = torch.nn.functional.linear(maps, torch.from_numpy(weight), torch.from_numpy(bias)).numpy()
    for last, more in ((nir.Affine(weight, bias), 0), (nir.Linear(weight), bias)):
        found, _ = Interpreter(chain(pool, flat, last)).step(x)
        np.testing.assert_allclose(found + more, expected, rtol=1e-12)


def test_neurons_follow_nirs_equations_in_forward_steps() -> None:
    """tau dv/dt = (v_leak - v) + r I and dv/dt = r I, with constants for each neuron, a leak and a reset not at 0."""
    shape, steps = (3, 2), 8
    tau = 2e-4 + 1e-4 * np.abs(draws(*shape))
    r, leak, threshold, reset = (np.abs(draws(*shape, seed=seed)) for seed in range(1, 5))
    current = 2 * draws(steps, 5, *shape, seed=9)
    lif = nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset / 2)
    integrate = nir.IF(r=r / DT, v_threshold=threshold, v_reset=reset / 2)
    for node in (lif, integrate):
        run, v, fired = Interpreter(chain(node, shape=shape)), np.zeros((5, *shape)), 0.0
        for x in current:
            v = v + DT * ((leak - v + r * x) / tau if node is lif else r / DT * x)
            spikes = v > threshold
            v = np.where(spikes, reset / 2, v)
            found, seen = run.step(x)
            assert np.array_equal(found, spikes)
            assert np.array_equal(seen["n0"], spikes)
            fired += spikes.mean()
        assert 0.5 < fired < steps - 0.5
        first, _ = next(run.run(current[0], 1))
        run.reset()
        assert np.array_equal(run.step(current[0])[0], first)


def test_several_edges_are_a_sum() -> None:
    lif = nir.LIF(*(np.full((4, 9, 7), value) for value in (DT, 1.0, 0.0, 1.5)))
    graph = chain(lif, more=[("input", "output")])
    x = np.ones((1, 4, 9, 7))
    found, _ = Interpreter(graph).step(2 * x)
    assert np.array_equal(found, 3 * x)


REFUSED: list[tuple[nir.NIRGraph, str]] = [
    (chain(nir.Scale(np.ones(3))), "is a Scale"),
    (chain(nir.Conv2d((9, 7), draws(2, 4, 3, 3), 1, "same", 1, 1, np.zeros(2))), "dilated, or padded by a word"),
    (chain(nir.Conv2d((9, 7), draws(2, 4, 3, 3), 1, 1, 2, 1, np.zeros(2))), "dilated, or padded by a word"),
    (chain(nir.AvgPool2d(np.array(2), np.array(2), np.array(1))), "is padded"),
    (chain(nir.Linear(np.ones((2, 2))), more=[("n0", "n0")]), "runs in a circle"),
    (nir.NIRGraph({"x": nir.Input({"input": np.array([1])})}, [], type_check=False), "1 inputs and 0 outputs"),
    (
        nir.NIRGraph(
            {
                name: kind({word: np.array([1])})
                for name, kind, word in (("a", nir.Input, "input"), ("b", nir.Output, "output"))
            },
            [],
            type_check=False,
        ),
        "'b' reads nothing",
    ),
]


@pytest.mark.parametrize(("graph", "words"), REFUSED, ids=[each[1] for each in REFUSED])
def test_what_it_does_not_run_is_refused_by_name(graph: nir.NIRGraph, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        Interpreter(graph).step(np.ones((1, 4, 9, 7)))
