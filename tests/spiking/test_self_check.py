"""The self-check of a device: it lets sound kernels pass and finds broken ones, whatever is broken.

On the CPU the kernels' places are taken by plain PyTorch, sound or broken in one way each; the real ones run in
Triton's interpreter.
"""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from triton_cases import DEVICE, DTYPES, in_a_process_of_their_own, inside, needs_triton, neuron_of, outside

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking import BatchNorm, lif_reference
from idsnn_cli.spiking.triton import self_check
from idsnn_cli.spiking.triton.check_maps import Fire
from idsnn_cli.spiking.triton.self_check import Launchers, Results, examine, failure
from idsnn_cli.spiking.verdict import Verdict

CPU = torch.device("cpu")
NEURONS = [
    Neuron(),
    Neuron(reset_gradient="full"),
    Neuron(1.0, 1.0, reset="soft", start="half", reset_gradient="full"),
    *(neuron_of(name) for name in ("rectangle", "triangle", "sigmoid", "arctan", "dspike")),
]


def fire(norm: BatchNorm, neuron: Neuron, steps: int, x: Tensor, residual: Tensor | None, repeat: int) -> Tensor:
    """The chain as the kernels compute it, of plain PyTorch."""
    assert residual is not None
    return spikes_of(affine(norm, x) + residual.float(), neuron, steps, x.dtype)


def affine(norm: BatchNorm, x: Tensor) -> Tensor:
    if norm.training:
        y: Tensor = norm(x.float())
        return y
    assert norm.running_mean is not None
    per = (slice(None), None, None)
    return (x.float() - norm.running_mean[per]) * norm.weight[per] + norm.bias[per]


def spikes_of(z: Tensor, neuron: Neuron, steps: int, dtype: torch.dtype) -> Tensor:
    return lif_reference(z.view(steps, -1, *z.shape[1:]), neuron).flatten(0, 1).to(dtype)


def contracted(norm: BatchNorm, neuron: Neuron, steps: int, x: Tensor, residual: Tensor | None, repeat: int) -> Tensor:
    """With constant statistics the product and the sum are rounded once, as a fused multiply-add does."""
    if norm.training:
        return fire(norm, neuron, steps, x, residual, repeat)
    assert residual is not None
    assert norm.running_mean is not None
    per = (slice(None), None, None)
    wide = (x.float() - norm.running_mean[per]).double() * norm.weight[per].double() + norm.bias[per].double()
    return spikes_of(wide.float() + residual.float(), neuron, steps, x.dtype)


def rounded(norm: BatchNorm, neuron: Neuron, steps: int, x: Tensor, residual: Tensor | None, repeat: int) -> Tensor:
    """Rounded to bf16 behind BatchNorm, as separate layers would."""
    assert residual is not None
    return spikes_of(affine(norm, x).bfloat16().float() + residual.float(), neuron, steps, x.dtype)


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is a fiftieth too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 1.05


def strong_in(part: str) -> Fire:
    """The chain with too large a gradient of one input."""

    def broken(norm: BatchNorm, neuron: Neuron, steps: int, x: Tensor, residual: Tensor | None, repeat: int) -> Tensor:
        assert residual is not None
        if part == "x":
            x = Scaled.apply(x)
        elif part == "residual":
            residual = Scaled.apply(residual)
        y = affine(norm, x)
        if part == "parameters":
            y = Scaled.apply(y)
        return spikes_of(y + residual.float(), neuron, steps, x.dtype)

    return broken


def untracked(norm: BatchNorm, neuron: Neuron, steps: int, x: Tensor, residual: Tensor | None, repeat: int) -> Tensor:
    """The running statistics stay as they are."""
    norm.momentum = 0.0
    return fire(norm, neuron, steps, x, residual, repeat)


def flipped(x: Tensor, neuron: Neuron) -> Tensor:
    """A single spike is another."""
    spikes = lif_reference(x, neuron)
    other = torch.zeros_like(spikes)
    other[0, 7] = 1 - 2 * spikes[0, 7].detach()
    return spikes + other


def forgotten_reset(x: Tensor, neuron: Neuron) -> Tensor:
    """Right spikes; the gradient passes time as if nothing was reset."""
    spikes = lif_reference(x, neuron)
    wrong = x.float().cumsum(0).to(x.dtype)
    return spikes.detach() + (spikes - spikes.detach()) + 0.1 * (wrong - wrong.detach())


def captured_late(work: Callable[[], Results]) -> Results:
    """The first spike of a replay is wrong."""
    results = work()
    results["spikes"][0, 0, 0, 0] = 1 - results["spikes"][0, 0, 0, 0]
    return results


@contextmanager
def launched(**changes: Any) -> Iterator[None]:
    sound: dict[str, Any] = {"lif": lif_reference, "fire": fire, "capture": lambda work: work()}
    own = Launchers(**(sound | changes))
    with mock.patch.object(self_check, "launchers", return_value=own):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_sound_kernels_pass(dtype: torch.dtype, timesteps: int) -> None:
    with launched():
        for neuron in NEURONS:
            assert examine(CPU, dtype, neuron, timesteps) == Verdict(True), neuron


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lif": flipped}, "the neuron's spikes differ from plain PyTorch's in 1 of"),
        ({"lif": forgotten_reset}, "the neuron's gradients differ"),
        ({"fire": contracted}, "multiply-adds are contracted"),
        ({"fire": rounded}, "differ from plain PyTorch's"),
        ({"fire": strong_in("x")}, "gradients of the input with constant statistics differ"),
        ({"fire": strong_in("residual")}, "gradients of the shortcut with constant statistics differ"),
        ({"fire": strong_in("parameters")}, "gradients of"),
        ({"fire": untracked}, "running variances with statistics of the batch differ"),
        ({"capture": captured_late}, "spikes of a captured step differ"),
    ],
    ids=[
        *("a spike", "a gradient through time", "fused multiply-adds", "a rounding between", "the input's gradient"),
        *("the shortcut's gradient", "the parameters' gradients", "running statistics", "a captured step"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_broken_kernels_are_found(changes: dict[str, Any], words: str, dtype: torch.dtype) -> None:
    with launched(**changes):
        for neuron in NEURONS:
            found = examine(CPU, dtype, neuron, 4)
            assert not found.used, neuron
            assert words in found.reason


def test_whatever_fails_is_the_verdict() -> None:
    def fails(x: Tensor, neuron: Neuron) -> Tensor:
        raise RuntimeError("no kernel image is available for execution on the device\nCompile with ...")

    with launched(lif=fails):
        found = examine(CPU, torch.float32, Neuron(), 4)
    assert not found.used
    assert found.reason == (
        "they cannot be compiled or run here: RuntimeError: no kernel image is available for execution on the device"
    )
    with mock.patch.object(self_check, "launchers", side_effect=ModuleNotFoundError("No module named 'triton'")):
        assert "No module named" in examine(CPU, torch.float32, Neuron(), 4).reason


def test_the_callers_modes_do_not_reach_it() -> None:
    with launched(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert examine(CPU, torch.float32, Neuron(), 4).used


def test_a_warning_where_warnings_are_errors_is_no_failure() -> None:
    def warns(x: Tensor, neuron: Neuron) -> Tensor:
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return lif_reference(x, neuron)

    with launched(lif=warns), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert examine(CPU, torch.float32, Neuron(), 4).used


def test_why_a_launcher_could_not_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No compiler, no header, a folder that cannot be written: each with what mends it."""
    error = subprocess.CalledProcessError(1, ["gcc", "main.c"])
    monkeypatch.setattr(self_check, "which", lambda name: None)
    no_compiler = failure(RuntimeError("Failed to find C compiler. Please specify via CC environment variable."))
    assert "there is no C compiler" in no_compiler.reason
    assert no_compiler.fix is not None
    assert "CC=" in no_compiler.fix
    monkeypatch.setattr(self_check, "which", lambda name: "/usr/bin/gcc")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h is not there" in failure(error).reason
    (tmp_path / "Python.h").touch()
    assert "CalledProcessError" in failure(error).reason
    read_only = failure(OSError(30, "Read-only file system", "/root/.triton"))
    assert read_only.fix is not None
    assert "TRITON_CACHE_DIR" in read_only.fix


@needs_triton
@pytest.mark.parametrize(
    ("capability", "version", "used"),
    [((9, 0), "12.9", True), ((10, 0), "12.9", False), ((12, 0), "13.2", False), ((12, 0), "13.3", True)],
)
def test_a_ptxas_that_contracts_on_blackwell_is_refused(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], version: str, used: bool
) -> None:
    from triton.backends.nvidia import compiler

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(compiler, "get_ptxas", lambda architecture: SimpleNamespace(version=version))
    found = self_check.contracting_ptxas(torch.device("cuda"))
    assert (found is None) is used
    if found is not None:
        assert f"ptxas {version} on compute capability {capability[0]}.0" in found.reason
        assert "TRITON_PTXAS_BLACKWELL_PATH" in str(found.fix)
    assert self_check.contracting_ptxas(CPU) is None


@needs_triton
@pytest.mark.slow
@outside
def test_interpreted() -> None:
    in_a_process_of_their_own(__file__)


@needs_triton
@inside
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neuron", [*NEURONS[:3], neuron_of("sigmoid")], ids=["usual", "full", "odd", "sigmoid"])
def test_our_kernels_pass(neuron: Neuron, dtype: torch.dtype) -> None:
    for timesteps in (1, 4, 11):
        assert examine(DEVICE, dtype, neuron, timesteps) == Verdict(True)


@needs_triton
@inside
def test_our_kernels_with_one_that_does_nothing_do_not() -> None:
    from idsnn_cli.spiking.triton import chain

    class Nothing:
        def __getitem__(self, grid: Any) -> Callable[..., None]:
            return lambda *args, **settings: args[4].zero_()

    with mock.patch.object(chain, "chain_reduce", Nothing()):
        found = examine(DEVICE, torch.float32, Neuron(), 4)
    assert "gradients of gamma with constant statistics differ" in found.reason
