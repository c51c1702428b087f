"""Kernels of another form against what the convolutions themselves compute."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.initializer.kernels import Folded, Kernel, dense, fold, norm_scale, resized


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3]))
def test_a_dense_kernel_computes_what_the_groups_do(groups: int, out: int, inside: int, size: int) -> None:
    weight = drawn(out * groups, inside, size, size)
    images = drawn(2, inside * groups, 6, 6, seed=1)
    wide = dense(weight, groups)
    assert wide.shape == (out * groups, inside * groups, size, size)
    assert torch.allclose(F.conv2d(images, wide), F.conv2d(images, weight, groups=groups), atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.sampled_from([1, 3, 7]), st.sampled_from([1, 3]), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4))
def test_a_folded_kernel_computes_what_two_in_a_row_do(a: int, b: int, stride: int, inner: int, out: int) -> None:
    first, second = drawn(inner, 3, a, a), drawn(out, inner, b, b, seed=1)
    images = drawn(2, 3, 24, 24, seed=2)
    whole = fold(first, second, stride)
    assert whole.shape == (out, 3, a + (b - 1) * stride, a + (b - 1) * stride)
    expected = F.conv2d(F.conv2d(images, first, stride=stride), second)
    assert torch.allclose(F.conv2d(images, whole, stride=stride), expected, atol=1e-9)


def test_three_in_a_row_of_a_deep_stem() -> None:
    kernels = [drawn(4, 3, 3, 3), drawn(5, 4, 3, 3, seed=1), drawn(6, 5, 3, 3, seed=2)]
    images = drawn(1, 3, 40, 40, seed=3)
    whole = fold(fold(kernels[0], kernels[1], 2), kernels[2], 2)
    expected = F.conv2d(F.conv2d(F.conv2d(images, kernels[0], stride=2), kernels[1]), kernels[2])
    assert whole.shape == (6, 3, 11, 11)
    assert torch.allclose(F.conv2d(images, whole, stride=2), expected, atol=1e-9)


def test_the_centre_of_a_kernel() -> None:
    seven = drawn(2, 3, 7, 7)
    assert torch.equal(resized(seven, 3, "centre"), seven[:, :, 2:5, 2:5])
    three = drawn(2, 3, 3, 3)
    grown = resized(three, 7, "centre")
    assert torch.equal(grown[:, :, 2:5, 2:5], three)
    assert grown.count_nonzero() == three.count_nonzero()
    images = drawn(1, 3, 12, 12, seed=1)
    # Padded with zeros it is the same function, its own border aside.
    assert torch.allclose(F.conv2d(images, grown, padding=3), F.conv2d(images, three, padding=1), atol=1e-12)
    one = drawn(2, 3, 1, 1)
    assert torch.allclose(F.conv2d(images, resized(one, 3, "area"), padding=1), F.conv2d(images, one), atol=1e-12)


@pytest.mark.parametrize(("size", "to"), [(7, 3), (3, 7), (11, 7), (11, 3), (5, 3)])
def test_an_area_resize_keeps_the_answer_to_an_even_image(size: int, to: int) -> None:
    weight = drawn(2, 3, size, size)
    assert torch.allclose(resized(weight, to, "area").sum((2, 3)), weight.sum((2, 3)), atol=1e-12)


def test_an_area_resize_shares_each_tap_out() -> None:
    line = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    line[0, 0, 1] = 7.0  # the middle row, of thirds from 7/3 to 14/3 of seven
    found = resized(line, 7, "area")[0, 0]
    # New rows 2 to 4 are covered by 2/3, 1 and 2/3 of their length, and a row's 21 is spread over 7/3 of them.
    assert found.sum(1).tolist() == pytest.approx([0, 0, 21 * 2 / 7, 21 * 3 / 7, 21 * 2 / 7, 0, 0])
    assert found[3].tolist() == pytest.approx([9 / 7] * 7)


def test_a_norm_multiplies_by_gamma_over_sigma() -> None:
    gamma, variance = drawn(5), drawn(5, seed=1).abs()
    values = drawn(3, 5, 2, 2, seed=2)
    zeros = torch.zeros(5, dtype=torch.float64)
    expected = F.batch_norm(values, zeros, variance, gamma, zeros)
    assert torch.allclose(values * norm_scale(gamma, variance).view(1, -1, 1, 1), expected)


def test_words_and_json() -> None:
    folded = Folded("conv1.weight", "bn1.weight", "bn1.running_var", 2)
    kernel = Kernel(11, 7, "area", 1, (folded, Folded("conv2.weight", None, None, 1)))
    assert kernel.words() == "3 convolutions folded into one 11x11, 11x11 to 7x7 by area"
    assert Kernel.from_dict(kernel.to_dict()) == kernel
    assert Kernel(3, 3, groups=32).words() == "32 groups as a block-diagonal kernel"
    assert Kernel(7, 3).words() == "7x7 to 3x3 around the centre"
