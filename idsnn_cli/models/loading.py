"""From a checkpoint file to a network that is ready to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture, BottleneckStride, validate
from idsnn_cli.checkpoint import CheckpointFile, open_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.families import recognise
from idsnn_cli.models.resnet import ResNet, build

MeanStd = tuple[Sequence[float], Sequence[float]]


def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    normalise: MeanStd | None = None,
    bottleneck_stride: BottleneckStride | None = None,
) -> ResNet:
    """The network in ``path``, in evaluation mode on ``device``: an ANN gives (N, K) logits, a student (T, N, K).

    Reads checkpoints of ours and ResNet state dicts in any scheme that is recognised. Images are (N, 3, H, W) in 0 to
    1: the network normalises them itself. A foreign file does not say how, so it needs ``normalise``, the (mean, std)
    that it was trained with; nor in which convolution its bottlenecks stride, the 3x3 unless ``bottleneck_stride`` says
    otherwise. Raises :class:`CheckpointError` or :class:`FamilyError` for a file that is not a ResNet,
    :class:`UsageError` where ``normalise`` is missing, or an option speaks against the file.
    """
    with open_checkpoint(Path(path)) as file:
        if file.metadata is not None and "architecture" in file.metadata:
            architecture = Architecture.from_dict(file.metadata["architecture"])
            if bottleneck_stride not in (None, architecture.bottleneck_stride):
                raise UsageError(f"{path} says itself where its blocks stride", "Leave bottleneck_stride out.")
            names = {name: name for name in architecture.tensors()}
        else:
            found = recognise(file.shapes())
            if not found.has_head:
                raise CheckpointError(
                    f"{path} has no linear layer, so it cannot classify",
                    "It can still start a student: idsnn init --from FILE --num-classes N.",
                )
            architecture, names = found.architecture, dict(found.names)
            if bottleneck_stride is not None:
                architecture = replace(architecture, bottleneck_stride=bottleneck_stride)
                validate(architecture)
        model = build(architecture, seed=0)
        _fill(model, file, names)
    if "input.mean" in names:
        if normalise is not None:
            raise UsageError(f"{path} carries its own input normalisation", "Leave the normalisation out.")
    elif normalise is None:
        raise UsageError(
            f"{path} does not say how its images were normalised",
            "Name it: teacher.normalise=imagenet (or cifar10, cifar100, none), or normalise=(mean, std) in Python.",
        )
    else:
        model.set_normalisation(*normalise)
    return model.to(torch.device(device)).eval()


def _fill(model: ResNet, file: CheckpointFile, names: dict[str, str]) -> None:
    """Copy the file's tensors into ``model``, checking each shape and that floats are finite."""
    for name, own in model.state_dict().items():
        if name not in names:
            # Older files have no batch counter, foreign ones no input normalisation; recognise() saw to the rest.
            continue
        key = names[name]
        try:
            stored: Tensor = file.get(key)
        except KeyError:
            raise CheckpointError(
                f"{file.path} lacks the tensor {key} of a {model.architecture.describe()}",
                "Make the checkpoint again: this one is incomplete.",
            ) from None
        if stored.numel() != own.numel() or [n for n in stored.shape if n > 1] != [n for n in own.shape if n > 1]:
            raise CheckpointError(
                f"{file.path}: {key} is {list(stored.shape)}, but the architecture says {list(own.shape)}",
                "Make the checkpoint again: its metadata and tensors disagree.",
            )
        if stored.is_floating_point() and not torch.isfinite(stored).all():
            raise CheckpointError(f"{file.path}: {key} holds NaN or infinite values", "Use another checkpoint.")
        own.copy_(stored.reshape(own.shape))
