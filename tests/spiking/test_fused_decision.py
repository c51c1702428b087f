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
from idsnn_cli.errors import UsageError
from idsnn_cli.spiking import LIF, BatchNorm, fire, kernels
from idsnn_cli.spiking.fused import is_fused
from idsnn_cli.spiking.surrogates import surrogate
from idsnn_cli.spiking.triton import self_check
from idsnn_cli.spiking.verdict import Verdict


class OnCuda:
    """As much of a tensor as the decision looks at."""

    is_cuda = True

    def __init__(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> None:
        self.shape, self.dtype, self.device = torch.Size(shape), dtype, torch.device("cuda:0")

    def dim(self) -> int:
        return len(self.shape)


class OtherLIF(LIF):
    pass


@pytest.fixture(autouse=True)
def _triton_there() -> Any:
    """Triton is installed, and what is checked is found to be sound."""
    sound = mock.patch.object(self_check, "examine", return_value=Verdict(True))
    with mock.patch.object(kernels, "find_spec", return_value=object()), sound, mock.patch.dict("os.environ"):
        os.environ.pop(kernels.SWITCH, None)
        kernels.forget()
        yield
    kernels.forget()


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
        {"norm": BatchNorm(4, affine=False)},
        {"norm": BatchNorm(4, track_running_stats=False)},
    ],
    ids=[
        *("on a CPU", "float64", "no width", "another dtype joined", "another batch joined", "a subclass", "ReLU"),
        *("norm without gamma and beta", "norm of the batch alone"),
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
    os.environ[kernels.SWITCH] = "0"
    assert not decide()
    os.environ[kernels.SWITCH] = "1"
    assert not decide()
    kernels.forget()
    assert decide()


def taken(neuron: Neuron) -> bool:
    x = OnCuda(3, dtype=torch.float32)
    return kernels.takes_kernels(x, neuron, 3)  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize(
    "neuron",
    [Neuron(0.3, 1.0, "sigmoid", 2.0), Neuron(reset="soft", reset_gradient="full"), Neuron(start="half")],
    ids=str,
)
def test_kernels_know_every_reset_and_start(neuron: Neuron) -> None:
    assert taken(neuron)


def test_a_surrogate_without_a_kernel_form_takes_the_plain_path() -> None:
    plain = replace(surrogate("sigmoid"), kernel=None)
    with mock.patch.object(kernels, "surrogate", return_value=plain):
        assert not taken(Neuron(surrogate="sigmoid"))
    assert taken(Neuron(surrogate="sigmoid"))


def test_without_triton() -> None:
    """The plain path, with one word; an error where the kernels were asked for."""
    said: list[str] = []
    with mock.patch.object(kernels, "find_spec", return_value=None):
        kernels.tell_through(said.append)
        assert not decide()
        assert not taken(Neuron())
        assert len(said) == 1
        assert "pip install triton" in said[0]
        os.environ[kernels.SWITCH] = "1"
        kernels.forget()
        with pytest.raises(UsageError, match="Triton is not installed"):
            decide()


def test_a_device_that_fails_the_check_takes_the_plain_path_and_is_told_once() -> None:
    said: list[str] = []
    kernels.tell_through(said.append)
    broken = Verdict(False, "the neuron's spikes differ", "mend it")
    with mock.patch.object(self_check, "examine", return_value=broken) as examined:
        assert not decide()
        assert not decide()
        assert not taken(Neuron())
    # Once for each dtype, neuron and T.
    assert [call.args[1] for call in examined.call_args_list] == [torch.bfloat16, torch.float32]
    assert said == [
        "cuda:0: Triton's kernels are not used, plain PyTorch computes: the neuron's spikes differ\nmend it"
    ]


def test_without_a_command_it_is_a_warning() -> None:
    broken = mock.patch.object(self_check, "examine", return_value=Verdict(False, "a reason"))
    with broken, pytest.warns(RuntimeWarning, match="cuda:0: Triton's kernels are not used.*a reason"):
        assert not decide()


def test_nothing_is_checked_where_the_environment_says_so() -> None:
    for word, used in (("1", True), ("0", False)):
        os.environ[kernels.SWITCH] = word
        kernels.forget()
        with mock.patch.object(self_check, "examine", side_effect=AssertionError):
            assert decide() is used


def test_nothing_is_checked_inside_a_capture_and_nothing_settled() -> None:
    with mock.patch.object(kernels, "_is_capturing", return_value=True):
        assert not decide()
    assert decide()


@pytest.mark.parametrize("word", ["yes", "2", "chek"])
def test_another_word_is_refused(word: str) -> None:
    os.environ[kernels.SWITCH] = word
    kernels.forget()
    with pytest.raises(UsageError, match=f"IDSNN_FUSED is '{word}'") as caught:
        kernels.tell_through(print)
    assert caught.value.exit_code == 2
    assert ("Did you mean 'check'?" in caught.value.message) == (word == "chek")


def test_fire_on_the_cpu_is_the_layers_in_turn() -> None:
    norm, act = BatchNorm(3), LIF(Neuron(), 2)
    x, residual = (torch.randn((4, 3, 2, 2), generator=torch.Generator().manual_seed(i)) for i in range(2))
    spikes: Tensor = fire(norm, act, x, residual)
    assert torch.equal(spikes, act(BatchNorm(3)(x) + residual))


@pytest.mark.slow
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
