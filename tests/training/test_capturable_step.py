"""A watched step asks nothing of the host and brings nothing from it, which a CUDA graph could not hold.

The step runs on meta tensors, whose values nobody can ask for, and every operation is looked at: a tensor of the CPU
may be a scalar argument, but may not be copied to the device. Kernels are noted, not launched; so are collectives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from small_fits import small_fit
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.models import build
from idsnn_cli.spiking import fused, neuron
from idsnn_cli.training import Objective
from idsnn_cli.training.loop import _Trainer

META = torch.device("meta")


class OnDevice(TorchDispatchMode):
    """Notes what goes between the CPU and the device, and asks for values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.wrong: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = str(func), kwargs or {}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        whole = [each for each in given if each.device.type == "cpu"]
        on_device = len(whole) < len(given)
        copies = any(word in name for word in ("copy", "cat", "stack", "where", "lift", "index"))
        if on_device and not copies:
            # A scalar of the CPU is an argument of a kernel; the operations of meta tensors do not all take one.
            args, kwargs = tree_map_only(Tensor, argument, (args, kwargs))
        made = func(*args, **kwargs)
        on_device |= any(isinstance(each, Tensor) and each.device.type == "meta" for each in tree_leaves(made))
        self.operations += on_device
        if on_device and whole and (copies or any(each.dim() for each in whole)):
            self.wrong.append(f"{name} with {[(str(each.device), tuple(each.shape)) for each in whole]}")
        if "_local_scalar_dense" in name or "nonzero" in name or "equal.default" in name:
            self.wrong.append(name)
        return made

    def __enter__(self) -> OnDevice:
        # What makes a tensor of Python's numbers on a device copies it there, past the modes.
        self.patches = ExitStack()
        make, new = torch.tensor, Tensor.new_tensor

        def noted_make(data: Any, **settings: Any) -> Tensor:
            if torch.device(settings.get("device") or "cpu").type == "meta":
                self.wrong.append("torch.tensor")
            return make(data, **settings)

        def noted_new(self_: Tensor, data: Any, **settings: Any) -> Tensor:
            if self_.device.type == "meta":
                self.wrong.append("new_tensor")
            return new(self_, data, **settings)

        self.patches.enter_context(mock.patch.object(torch, "tensor", noted_make))
        self.patches.enter_context(mock.patch.object(Tensor, "new_tensor", noted_new))
        super().__enter__()  # type: ignore[no-untyped-call]  # as above
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # as above
        self.patches.close()


def argument(tensor: Tensor) -> Tensor:
    scalar = tensor.device.type == "cpu" and tensor.dim() == 0
    return torch.empty((), dtype=tensor.dtype, device=META) if scalar else tensor


def trainer(folder: Path) -> _Trainer:
    teacher = build(build_description("resnet8", 4, width=4, stem="7x7"), seed=2).eval().requires_grad_(False)
    config = small_fit(folder).config.model_copy(update={"clip_norm": 1.0})
    objective = Objective.of({"alpha": 0.3, "loss_on": "steps"}, teacher=teacher)
    made = _Trainer(small_fit(folder, config=config, device=META, objective=objective))
    made.learner.train()
    made.global_size = 8
    return made


@pytest.fixture(params=["alone", "several processes"])
def processes(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The collectives that are called."""
    called: list[str] = []
    if request.param == "alone":
        yield called
        return
    with ExitStack() as stack:
        for name, value in {"is_initialized": True, "get_world_size": 2, "get_rank": 0}.items():
            stack.enter_context(mock.patch.object(dist, name, return_value=value))
        for name in ("all_reduce", "all_gather", "broadcast"):
            note = lambda *args, name=name, **named: called.append(name)  # noqa: E731  # bound at once
            stack.enter_context(mock.patch.object(dist, name, note))
        yield called


def looked_at(folder: Path) -> OnDevice:
    made = trainer(folder)
    images, labels = torch.empty(8, 3, 16, 16, device=META), torch.empty(8, dtype=torch.int64, device=META)
    with OnDevice() as mode:
        made._watched_step(images, labels)
    return mode


def test_with_plain_pytorch(tmp_path: Path, processes: list[str]) -> None:
    mode = looked_at(tmp_path)
    assert mode.operations > 200
    assert mode.wrong == []
    # Weights, of each BatchNorm statistics and sums, one flat gradient, and whether all is finite.
    assert sorted(set(processes)) == (["all_gather", "all_reduce", "broadcast"] if processes else [])


def test_with_kernels(tmp_path: Path, processes: list[str]) -> None:
    jit = pytest.importorskip("triton.runtime.jit")
    launched: list[str] = []
    note = lambda self, *args, **named: launched.append(self.fn.__name__)  # noqa: E731  # Triton calls it as a method
    with (
        mock.patch.object(jit.JITFunction, "run", note),
        mock.patch.object(fused, "takes_kernels", return_value=True),
        mock.patch.object(neuron, "takes_kernels", return_value=True),
    ):
        mode = looked_at(tmp_path)
    assert mode.operations > 200
    assert mode.wrong == []
    assert {"chain_forward", "chain_reduce", "chain_apply", "combine_statistics"} <= set(launched)


def test_it_would_show(tmp_path: Path) -> None:
    """What a graph could not hold is noted: a copy, a tensor of Python's numbers, a value that is asked for."""
    x = torch.empty(3, device=META)
    with OnDevice() as mode:
        x.copy_(torch.ones(3))
        x.new_tensor([1.0, 2.0, 3.0])
        torch.cat([x, torch.ones(3).to(META)])
        x.mul_(2.0).add_(torch.tensor(1.0))
    assert len(mode.wrong) == 3
    with pytest.raises(RuntimeError), OnDevice():
        float(x.sum())


def test_the_neuron_is_the_papers() -> None:
    """So that the kernels that are noted are those of the paper's step."""
    assert (Neuron().reset, Neuron().start, Neuron().reset_gradient) == ("hard", "zero", "detached")
