"""The account of bytes against what the kernels load and store, counted access by access in the interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from triton_cases import COMPILED, in_a_process_of_their_own, inside, needs_triton, neuron_of, nhwc, normal, outside

from idsnn_cli.spiking import BatchNorm
from idsnn_cli.spiking.triton.launch import bytes_per_neuron_step

pytestmark = [needs_triton, pytest.mark.slow]
# Of maps in bf16 only these are; statistics and parameters are fp32.
MAPS = {"bf16", "uint8"}


@outside
def test_interpreted() -> None:
    in_a_process_of_their_own(__file__)


@contextmanager
def accesses() -> Iterator[Counter[str]]:
    """Bytes of maps that are loaded or stored within the block, by the kernel's name."""
    from triton.runtime import interpreter

    counted: Counter[str] = Counter()
    running = [""]
    builder = interpreter.InterpreterBuilder
    load, store, launch = builder.create_masked_load, builder.create_masked_store, interpreter.GridExecutor.__call__

    def count(pointers: Any, mask: Any) -> None:
        kind = pointers.get_element_ty()
        if str(kind) in MAPS:
            counted[running[0]] += int(mask.data.sum()) * kind.primitive_bitwidth // 8

    def counting_load(self: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        count(pointers, mask)
        return load(self, pointers, mask, *rest, **named)

    def counting_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        count(pointers, mask)
        return store(self, pointers, value, mask, *rest, **named)

    def counting_launch(self: Any, *args: Any, **named: Any) -> Any:
        running[0] = self.fn.__name__
        return launch(self, *args, **named)

    with (
        mock.patch.object(builder, "create_masked_load", counting_load),
        mock.patch.object(builder, "create_masked_store", counting_store),
        mock.patch.object(interpreter.GridExecutor, "__call__", counting_launch),
    ):
        yield counted


def measured(steps: int, *, residual: bool, repeat: bool = False) -> dict[str, float]:
    from idsnn_cli.spiking.triton.chain import fused_fire

    images = 2 if repeat else 2 * steps
    x = nhwc(normal((images, 8, 3, 3), torch.bfloat16, 0)).requires_grad_()
    around = nhwc(normal(tuple(x.shape), torch.bfloat16, 1)).requires_grad_() if residual else None
    with accesses() as counted:
        spikes = fused_fire(BatchNorm(8), neuron_of("rectangle"), steps, x, around, steps if repeat else 1)
        spikes.backward(torch.ones_like(spikes))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {kernel: found / spikes.numel() for kernel, found in counted.items() if found}


@inside
@pytest.mark.skipif(COMPILED, reason="the interpreter counts")
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("steps", [4, 5])
def test_the_account_is_what_the_kernels_do(steps: int, residual: bool) -> None:
    assert measured(steps, residual=residual) == bytes_per_neuron_step(torch.bfloat16, steps, residual=residual)


@inside
@pytest.mark.skipif(COMPILED, reason="the interpreter counts")
def test_a_repeated_map_is_read_once() -> None:
    assert measured(4, residual=False, repeat=True) == bytes_per_neuron_step(torch.bfloat16, 4, repeat=True)


def test_the_sums() -> None:
    """bf16, four steps, the rectangle: statistics 2, forward 4.25, reduce 4.25, apply 6.25; a residual twice 2 more."""
    plain = bytes_per_neuron_step(torch.bfloat16, 4)
    assert plain == {"partial_statistics": 2, "chain_forward": 4.25, "chain_reduce": 4.25, "chain_apply": 6.25}
    assert sum(plain.values()) == 16.75
    assert sum(bytes_per_neuron_step(torch.bfloat16, 4, residual=True).values()) == 20.75
