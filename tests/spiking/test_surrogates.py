"""Surrogate derivatives against the equations, written with the math module alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.errors import UsageError
from idsnn_cli.registry import names
from idsnn_cli.spiking.surrogates import KernelForm, derivative, surrogate

SCALES = {name: surrogate(name).default for name in names("idsnn_cli.spiking.surrogates")}


def _sigmoid(v: float, a: float) -> float:
    s = 1 / (1 + math.exp(-a * v))
    return a * s * (1 - s)


FORMULAS: dict[str, Callable[[float, float], float]] = {
    "rectangle": lambda v, lens: 1 / (2 * lens) if abs(v) < lens else 0.0,
    "triangle": lambda v, g: max(0.0, g - abs(v)) / g**2,
    "sigmoid": _sigmoid,
    "arctan": lambda v, a: (a / 2) / (1 + (math.pi * a * v / 2) ** 2),
    "dspike": lambda v, b: b / math.cosh(b * v) ** 2 / (2 * math.tanh(b / 2)) if abs(v) <= 0.5 else 0.0,
}


def test_every_surrogate_has_a_formula_and_a_default() -> None:
    assert set(FORMULAS) == set(SCALES)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    name=st.sampled_from(sorted(FORMULAS)),
    scale=st.floats(0.1, 8),
    values=st.lists(st.floats(-4, 4), min_size=1, max_size=8),
)
def test_equals_the_formula(name: str, scale: float, values: list[float]) -> None:
    found = derivative(torch.tensor(values, dtype=torch.float64), name, scale)
    wanted = torch.tensor([FORMULAS[name](v, scale) for v in values], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", sorted(FORMULAS))
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_integrates_to_one(name: str, factor: float) -> None:
    """Each is the derivative of a step from 0 to 1, so its area is 1; only the arctan's has tails."""
    scale, reach, points = SCALES[name] * factor, 400.0, 2_000_001
    v = torch.linspace(-reach, reach, points, dtype=torch.float64)
    area = float(torch.trapezoid(derivative(v, name, scale), v))
    tail = 1 - 2 / math.pi * math.atan(math.pi * scale * reach / 2) if name == "arctan" else 0.0
    assert area + tail == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "scale", "edge", "at_edge"),
    [("rectangle", 0.5, 0.5, 0.0), ("triangle", 1.0, 1.0, 0.0), ("dspike", 3.0, 0.5, FORMULAS["dspike"](0.5, 3.0))],
)
def test_window_edges(name: str, scale: float, edge: float, at_edge: float) -> None:
    """The rectangle's and the triangle's windows are open, Dspike's is closed."""
    beyond = math.nextafter(edge, math.inf)
    found = derivative(torch.tensor([edge, -edge, beyond, -beyond], dtype=torch.float64), name, scale)
    assert found.tolist() == pytest.approx([at_edge, at_edge, 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_an_element_does_not_depend_on_its_neighbours(name: str, dtype: torch.dtype) -> None:
    """Vector units and leftovers must round alike, or the chunks of the fast neuron would show in the gradients."""
    v = torch.randn(1003, dtype=dtype, generator=torch.Generator().manual_seed(3))
    whole = derivative(v, name, SCALES[name])
    alone = torch.cat([derivative(v[at : at + 1], name, SCALES[name]) for at in range(len(v))])
    assert torch.equal(whole, alone)
    assert whole.dtype == dtype


def test_the_argument_is_left_alone() -> None:
    v = torch.linspace(-2, 2, 9)
    before = v.clone()
    for name, scale in SCALES.items():
        derivative(v, name, scale)
    assert torch.equal(v, before)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        derivative(torch.zeros(1), "box", 1.0)
    assert "box" in caught.value.message
    assert all(name in (caught.value.fix or "") for name in SCALES)


def of_kernel(v: float, form: KernelForm) -> float:
    """What Triton's kernels make of a form, as its docstring says it."""
    e = math.exp(-form.scale * abs(v))
    found = {
        "rectangle": form.peak * (abs(v) < form.scale),
        "triangle": form.peak * max(0.0, form.scale - abs(v)),
        "arctan": form.peak / (1 + (form.scale * v) ** 2),
        "sigmoid": form.peak * e / (1 + e) ** 2,
        "dspike": form.peak * e / (1 + e) ** 2 * (abs(v) <= 0.5),
    }
    return found[form.shape]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(name=st.sampled_from(sorted(FORMULAS)), scale=st.floats(0.1, 8), v=st.floats(-4, 4))
def test_the_window_and_the_kernels_form_are_the_formula(name: str, scale: float, v: float) -> None:
    each = surrogate(name)
    assert each.kernel is not None
    assert of_kernel(v, each.kernel(scale)) == pytest.approx(FORMULAS[name](v, scale), rel=1e-9, abs=1e-12)
    assert (each.window is not None) == (name == "rectangle")
    if each.window is not None:
        window = each.window(scale)
        assert window.height * (abs(v) < window.half_width) == FORMULAS[name](v, scale)
