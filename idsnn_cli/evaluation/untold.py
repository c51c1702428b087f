"""Which of several networks of the same tensors a file holds, found from images without labels.

BatchNorm remembers the mean and variance of what it saw in training. Of networks that differ in what no tensor tells,
as where option-A shortcuts put their zeros, the right one gives them again behind the first place where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.normalisation import divergences
from idsnn_cli.initializer.activations import evaluating
from idsnn_cli.models import Model
from idsnn_cli.spiking import BatchNorm
from idsnn_cli.spiking.precision import in_float64

# Augmentation moves the divergences of all forms alike. On 256 images of CIFAR-10 two public option-A networks, of
# depths 20 and 56, gave ratios of 54 and 111; a network whose statistics were never trained gives 1.1.
CLEAR_RATIO = 2.0
# Divergences that differ by less are rounding, of norms before the place where the networks differ.
_SAME = 1e-6

Form = TypeVar("Form", bound=str)


@dataclass(frozen=True, slots=True)
class FormVerdict(Generic[Form]):
    """``divergences`` is form -> divergence in nats of the statistics of ``norm``, the nearest first; empty, with no
    norm, where the forms do the same to the images.
    """

    divergences: Mapping[Form, float]
    norm: str
    images: int

    @property
    def clear(self) -> bool:
        if len(self.divergences) < 2:
            return False
        first, second = list(self.divergences.values())[:2]
        return second >= CLEAR_RATIO * max(first, _SAME)

    def require_clear(self, what: str, fix: str) -> Form:
        """The form that is right; :class:`UsageError`, which says ``what`` is not clear, with every divergence."""
        if self.clear:
            return next(iter(self.divergences))
        listed = ", ".join(f"{name} {value:.4f}" for name, value in self.divergences.items())
        found = f"divergences of the statistics of {self.norm}: {listed}" if listed else "no norm tells"
        raise UsageError(f"{what}, and {self.images} images do not show it ({found})", fix)


def find_form(forms: Mapping[Form, Model], batches: Iterable[Tensor]) -> FormVerdict[Form]:
    """The one of ``forms`` whose BatchNorms see what their running statistics say.

    All have the same weights; ``batches`` are training images (N, C, H, W) in 0 to 1 on their device, a few hundred are
    enough. The first BatchNorm at which the forms differ tells, by the mean over channels of
    :func:`~idsnn_cli.evaluation.normalisation.divergences` there. The models are left as they were.
    """
    moments = {form: _Moments(model) for form, model in forms.items()}
    images = 0
    for batch in batches:
        images += len(batch)
        for form, model in forms.items():
            with evaluating(model), moments[form]:
                model(batch)
    found = {form: each.divergences() for form, each in moments.items()}
    for norm in next(iter(found.values())):
        here = {form: divergences[norm] for form, divergences in found.items()}
        if max(here.values()) - min(here.values()) > _SAME:
            return FormVerdict(dict(sorted(here.items(), key=lambda item: item[1])), norm, images)
    return FormVerdict({}, "", images)


class _Moments:
    """Sums of what each BatchNorm of a model reads, while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        self.norms = {name: each for name, each in model.named_modules() if isinstance(each, BatchNorm)}
        self.sums = {name: torch.zeros(2, norm.num_features).double() for name, norm in self.norms.items()}
        self.count = dict.fromkeys(self.norms, 0)
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        self.handles = [norm.register_forward_pre_hook(self._seeing(name)) for name, norm in self.norms.items()]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def divergences(self) -> dict[str, float]:
        """By norm, in network order."""
        found = {}
        for name, norm in self.norms.items():
            if self.count[name]:
                mean, square = self.sums[name] / self.count[name]
                running = (norm.get_buffer(each).cpu().double() for each in ("running_mean", "running_var"))
                found[name] = float(divergences(mean, square, *running).mean())
        return found

    def _seeing(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            maps = in_float64(inputs[0].detach())
            number = maps.numel() // maps.shape[1]
            variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
            self.sums[name] += number * torch.stack([mean, variance + mean.square()]).cpu()
            self.count[name] += number

        return see
