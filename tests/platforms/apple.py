"""A machine with an Apple GPU, made up on the CPU: tensors that say they are on ``mps`` and refuse what mps refuses.

That is float64, generators of the CPU, kernels that are not contiguous (which torch read wrongly there, without a
word), and work on tensors of two devices. What is computed is the CPU's, so that results can be compared bit by bit.
"""

# Torch leaves what subclasses of its tensors override without types.
# mypy: disable-error-code="override,no-untyped-call"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

MPS = torch.device("mps", 0)
NO_FLOAT64 = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
WRONG_GENERATOR = "Expected a 'mps' device type for generator but found 'cpu'"
_ACROSS = (torch.ops.aten.copy_, torch.ops.aten.index, torch.ops.aten.index_put_)


class AppleTensor(Tensor):
    """A tensor of the made-up GPU; ``on_cpu`` holds its values on the CPU."""

    on_cpu: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as torch's own do it

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> AppleTensor:
        if inner.dtype == torch.float64:
            raise TypeError(NO_FLOAT64)
        made: AppleTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("cpu"),
            requires_grad=requires_grad,
        )
        made.on_cpu = inner
        return made

    @property
    def device(self) -> torch.device:
        return MPS

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.on_cpu.untyped_storage()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"AppleTensor({self.on_cpu!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.on_cpu.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        name = func.overloadpacket
        if name not in _ACROSS and any(each.dim() > 0 and not isinstance(each, AppleTensor) for each in given):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        if name is torch.ops.aten.convolution and not args[1].on_cpu.is_contiguous():
            raise RuntimeError("a kernel that is not contiguous is read wrongly")
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if name is torch.ops.aten.copy_:
            return args[0]
        wrapped = tree_map(lambda each: AppleTensor(each) if isinstance(each, Tensor) else each, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _inner(each: Any) -> Any:
    return each.on_cpu if isinstance(each, AppleTensor) else each


class _ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return AppleTensor(values.detach().clone())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].on_cpu.clone()


class _FromGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Any) -> Tensor:
        return values.on_cpu.clone()  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return AppleTensor(grads[0].clone())


class _Machine(TorchFunctionMode):
    """What is asked for by the name of the GPU is made on it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        ours = bool(args) and isinstance(args[0], AppleTensor)
        if name == "to" and isinstance(args[0], Tensor):
            return _moved(func, args, kwargs)
        if name == "double" and ours:
            raise TypeError(NO_FLOAT64)
        if name == "cpu" and ours:
            return _FromGpu.apply(args[0])
        if name in ("numpy", "__array__") and ours:
            raise TypeError("can't convert mps:0 device type tensor to numpy")
        there = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "mps"
        if kwargs.get("generator") is not None and (there or ours):
            raise RuntimeError(WRONG_GENERATOR)
        if there:
            return AppleTensor(func(*args, **kwargs | {"device": "cpu"}))
        return func(*args, **kwargs)


class _Dispatcher(TorchDispatchMode):
    """The same for what is asked for while gradients are computed, where a function mode does not reach."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "mps":
            return AppleTensor(func(*args, **kwargs | {"device": torch.device("cpu")}))
        return func(*args, **kwargs)


def _moved(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """``Tensor.to`` in all its forms."""
    values, *rest = args
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for each in rest:
        if isinstance(each, Tensor):
            device, dtype = each.device, each.dtype
        elif isinstance(each, torch.dtype):
            dtype = each
        elif isinstance(each, str | torch.device):
            device = each
    here = values.device.type
    there = here if device is None else torch.device(device).type
    if here == "mps" and there == "cpu":
        values = _FromGpu.apply(values)
    if there == "mps" and dtype == torch.float64:
        raise TypeError(NO_FLOAT64)
    changed = {"dtype": dtype, "memory_format": kwargs.get("memory_format")}
    wanted = {key: each for key, each in changed.items() if each is not None}
    if wanted:
        values = func(values, **wanted)
    return _ToGpu.apply(values) if here == "cpu" and there == "mps" else values


@contextmanager
def apple_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block torch finds an Apple GPU."""
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    # Its attribute __wrapped__ is looked at by torch itself.
    monkeypatch.setattr(torch.backends.mps, "is_available", cache(lambda: True))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8 * 10**9)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: None)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Dispatcher(), _Machine():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
