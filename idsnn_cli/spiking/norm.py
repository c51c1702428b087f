"""BatchNorm over (T, N, H, W) per channel, for maps with time merged into the batch (tdBN), on one process or many."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from idsnn_cli.errors import DataError
from idsnn_cli.spiking.reference import compute_dtype


class _SyncedNorm(torch.autograd.Function):
    """Training-mode normalisation with the statistics of every process's images; any of them may hold none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = compute_dtype(x.dtype)
        wide = x.to(dtype)
        count = x.numel() // x.shape[1]
        local = torch.zeros(2 * x.shape[1] + 1, dtype=dtype, device=x.device)
        if count:
            variance, mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
            local = torch.cat([mean, variance * count, mean.new_full((1,), count)])
        # Means and centred sums are gathered, not raw squares, which would cancel (Chan et al.'s combination).
        gathered = torch.stack(gather(local))
        counts = gathered[:, -1:]
        total = counts.sum()
        means, scatters = gathered[:, :-1].chunk(2, dim=1)
        mean = (means * counts).sum(0) / total
        variance = (scatters + counts * (means - mean) ** 2).sum(0) / total
        inverse = torch.rsqrt(variance + eps)
        normal = (wide - _wide(mean)) * _wide(inverse)
        ctx.save_for_backward(normal, weight, inverse, total)
        y = normal * _wide(weight) + _wide(bias)
        ctx.mark_non_differentiable(mean, variance, total)
        return y.to(x.dtype), mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        normal, weight, inverse, total = ctx.saved_tensors
        grad = grads[0].to(normal.dtype)
        by_bias, by_weight = grad.sum((0, 2, 3)), (grad * normal).sum((0, 2, 3))
        sums = torch.cat([by_bias, by_weight])
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / total).chunk(2)
        dx = (grad - _wide(mean_grad) - normal * _wide(mean_product)) * _wide(weight * inverse)
        # The parameters' gradients stay local: the reduction over processes is the trainer's.
        return dx.to(grads[0].dtype), by_weight.to(weight.dtype), by_bias.to(weight.dtype), None


def gather(local: Tensor) -> list[Tensor]:
    """``local`` of every process, by rank."""
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local)
    return parts


def _wide(channels: Tensor) -> Tensor:
    return channels[None, :, None, None]


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose maps are (T * N, C, H, W), with the names and buffers of torch's.

    Under torch.distributed the statistics are those of the global batch (also on the CPU, which torch's SyncBatchNorm
    refuses), unless ``across_processes`` is False. ``momentum = None`` makes the running statistics a plain average
    over batches.
    """

    across_processes = True

    def forward(self, input: Tensor, repeat: int = 1) -> Tensor:
        """Normalise ``input``. ``repeat`` says how many equal time steps it stands for.

        Mean and biased variance of T equal copies are those of one; only the running variance's unbiased factor
        n / (n - 1) becomes T n / (T n - 1). Raises :class:`DataError` for a single value per channel in training.
        """
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if self.synchronises():
            y, mean, variance, total = _SyncedNorm.apply(input, self.weight, self.bias, self.eps)
            # Two values here are enough; only fewer need the others' count, for which the host must wait.
            if input.numel() < 2 * max(input.shape[1], 1):
                self.require_variance(float(total))
            n = total.double() * repeat
            self.track(mean, variance * (n / (n - 1)))
            return y  # type: ignore[no-any-return]  # torch leaves apply() untyped
        n = input.numel() / max(input.shape[1], 1)
        self.require_variance(n)
        if repeat == 1:
            momentum = self._count_batch()
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps
            )
        mean, variance = (torch.zeros(input.shape[1], dtype=self.weight.dtype, device=input.device) for _ in range(2))
        y = F.batch_norm(input, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        self.track(mean, variance * ((n - 1) / n * (n * repeat) / (n * repeat - 1)))
        return y

    def synchronises(self) -> bool:
        """Whether the statistics are shared with other processes."""
        return self.across_processes and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def require_variance(self, values: float) -> None:
        """Raise :class:`DataError` where there are fewer than two ``values`` per channel."""
        if values < 2:
            raise DataError(
                "a BatchNorm layer in training got a single value per channel, which has no variance",
                "Use a larger batch_size or larger images, or a subset that leaves no last batch of one image.",
            )

    def _count_batch(self) -> float:
        """Count one more batch; returns the weight of its statistics in the running ones."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor) -> None:
        """Take one more batch's ``mean`` and unbiased ``variance`` (C,) into the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        momentum = self._count_batch()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)
