"""When the kernels are used: the tensor, the layers, hooks, the setting; and that nothing imports Triton before."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking import LIF, BatchNorm, fire
from idsnn_cli.spiking import neuron as neurons
from idsnn_cli.spiking.fused import is_fused
from idsnn_cli.spiking.surrogates import surrogate


class OnCuda:
    """As much of a tensor as the decision looks at."""

    is_cuda = True

    def __init__(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> None:
        self.shape, self.dtype = torch.Size(shape), dtype

    def dim(self) -> int:
        return len(self.shape)


class OtherLIF(LIF):
    pass


@pytest.fixture(autouse=True)
def _triton_there() -> Any:
    with mock.patch.object(neurons, "find_spec", return_value=object()), mock.patch.dict("os.environ"):
        os.environ.pop(neurons.SWITCH, None)
        neurons.kernels_available.cache_clear()
        yield
    neurons.kernels_available.cache_clear()


def decide(norm: Any = None, act: Any = None, x: Any = None, residual: Any = None) -> bool:
    x = OnCuda(2, 4, 3, 3) if x is None else x
    return is_fused(norm or BatchNorm(4), act or LIF(Neuron(), 2), x, residual)


def test_what_is_fused() -> None:
    assert decide()
    assert decide(residual=OnCuda(2, 4, 3, 3))
    assert decide(x=OnCuda(2, 4, 3, 3, dtype=torch.float32))
    assert decide(norm=BatchNorm(4).eval())


@pytest.mark.parametrize(
    "changes",
    [
        {"x": torch.zeros(2, 4, 3, 3)},
        {"x": OnCuda(2, 4, 3, 3, dtype=torch.float64)},
        {"x": OnCuda(2, 4, 3)},
        {"residual": OnCuda(2, 4, 3, 3, dtype=torch.float32)},
        {"residual": OnCuda(1, 4, 3, 3)},
        {"act": OtherLIF(Neuron(), 2)},
        {"act": nn.ReLU()},
        {"act": LIF(Neuron(reset="soft"), 2)},
        {"act": LIF(Neuron(start="half"), 2)},
        {"norm": BatchNorm(4, affine=False)},
        {"norm": BatchNorm(4, track_running_stats=False)},
    ],
    ids=[
        *("on a CPU", "float64", "no width", "another dtype joined", "another batch joined", "a subclass", "ReLU"),
        *("soft reset", "half start", "norm without gamma and beta", "norm of the batch alone"),
    ],
)
def test_what_is_not(changes: dict[str, Any]) -> None:
    assert not decide(**changes)


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_a_hooked_layer_is_called_itself(hook: str) -> None:
    norm, act = BatchNorm(4), LIF(Neuron(), 2)
    for module in (norm, act):
        handle = getattr(module, hook)(lambda *args: None)
        assert not decide(norm, act)
        handle.remove()
        assert decide(norm, act)
    handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
    assert not decide(norm, act)
    handle.remove()


def test_the_setting_is_read_once() -> None:
    os.environ[neurons.SWITCH] = "0"
    assert not decide()
    os.environ[neurons.SWITCH] = "1"
    assert not decide()
    neurons.kernels_available.cache_clear()
    assert decide()


@pytest.mark.parametrize("neuron", [Neuron(reset="soft"), Neuron(start="half")], ids=str)
def test_kernels_know_only_the_usual_neuron(neuron: Neuron) -> None:
    x = OnCuda(3, dtype=torch.float32)
    assert neurons.takes_kernels(x, Neuron(0.3, 1.0, "sigmoid", 2.0))  # type: ignore[arg-type]  # a stand-in
    assert not neurons.takes_kernels(x, neuron)  # type: ignore[arg-type]  # a stand-in


def test_a_surrogate_without_a_kernel_form_takes_the_plain_path() -> None:
    x = OnCuda(3, dtype=torch.float32)
    plain = replace(surrogate("sigmoid"), kernel=None)
    with mock.patch.object(neurons, "surrogate", return_value=plain):
        assert not neurons.takes_kernels(x, Neuron(surrogate="sigmoid"))  # type: ignore[arg-type]  # a stand-in
    assert neurons.takes_kernels(x, Neuron(surrogate="sigmoid"))  # type: ignore[arg-type]  # a stand-in


def test_without_triton() -> None:
    with mock.patch.object(neurons, "find_spec", return_value=None):
        neurons.kernels_available.cache_clear()
        assert not decide()
        assert not neurons.takes_kernels(OnCuda(3, dtype=torch.float32), Neuron())  # type: ignore[arg-type]  # a stand-in


def test_fire_on_the_cpu_is_the_layers_in_turn() -> None:
    norm, act = BatchNorm(3), LIF(Neuron(), 2)
    x, residual = (torch.randn((4, 3, 2, 2), generator=torch.Generator().manual_seed(i)) for i in range(2))
    spikes: Tensor = fire(norm, act, x, residual)
    assert torch.equal(spikes, act(BatchNorm(3)(x) + residual))


def test_triton_may_be_missing() -> None:
    """Everything imports and a neuron learns where an import of Triton fails."""
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch, idsnn_cli.models\n"
        "from idsnn_cli.architecture import Neuron\n"
        "from idsnn_cli.spiking import LIF, BatchNorm, fire\n"
        "fire(BatchNorm(2), LIF(Neuron(), 2), torch.rand(4, 2, 3, 3)).sum().backward()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
