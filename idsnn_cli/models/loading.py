"""From a checkpoint file to a network that is ready to use."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture, BottleneckStride
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.families import FileKind, OptionA, Reading, Scheme, SpikingReading, Weights
from idsnn_cli.models.base import Model
from idsnn_cli.models.building import build
from idsnn_cli.models.channels import require_values
from idsnn_cli.models.identify import MeanStd, Network, floating, identify
from idsnn_cli.models.kinds import learnt_decays, require_kind
from idsnn_cli.sources.names import Source, as_source

_NAMED = "imagenet (or cifar10, cifar100, none, half)"
_OTHERS = "half (or none, or {mean: [...], std: [...]} with one value for each channel)"


def load(
    path: str | Source,
    *,
    device: str | torch.device = "cpu",
    normalise: MeanStd | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    weights: Weights = "auto",
    allow_unused: bool = False,
    scheme: Scheme | None = None,
    kind: FileKind = "auto",
    spiking: SpikingReading | None = None,
    timesteps: int | None = None,
    root: str | None = None,
    levels: int | None = None,
    option_a: OptionA | None = None,
) -> Model:
    """The network in ``path``, in evaluation mode on ``device``: an ANN gives (N, K) logits, a student (T, N, K).

    It is float64 where its kernels in the file are, and otherwise float32.

    Reads checkpoints of ours, ResNet state dicts in any scheme that is recognised, and ``torchvision:NAME[/WEIGHTS]``,
    ``timm:NAME`` and ``hf://USER/REPO``, which are downloaded where the cache lacks them. Images are (N, C, H, W) in 0
    to 1, grey for a network of one channel, or three whose mean it takes: the network normalises them itself. A foreign
    file does not say how, so it needs ``normalise``, the (mean, std) that it was trained with; nor in which convolution
    its bottlenecks stride, the 3x3 unless ``bottleneck_stride`` says otherwise. ``weights`` says which copy is taken of
    a foreign file with raw and averaged ones (``auto``: the averaged), and ``allow_unused`` drops keys of it that are
    not explained and change nothing; ``scheme`` is a table of names that the known ones lack; ``root`` what the names
    of the network that is meant begin with, of several; ``levels`` those of its QCFS activations, which only have
    thresholds in it; ``option_a`` where its shortcuts without weights put their zeros (``pad``, half before and half
    behind, unless it is given). ``kind`` says whether it spikes where it does not tell, and ``spiking`` its time steps
    and neurons. ``timesteps`` runs a student for so many steps instead of its own T. Raises :class:`CheckpointError` or
    :class:`FamilyError` for a file that is not a Model, :class:`UsageError` where ``normalise`` is missing, or an
    option speaks against the file.
    """
    with open_checkpoint(as_source(path)) as file:
        return load_identified(
            identify(file, Reading(weights, allow_unused, scheme, kind, spiking, root, levels, option_a=option_a)),
            path,
            device=device,
            normalise=normalise,
            bottleneck_stride=bottleneck_stride,
            timesteps=timesteps,
        )


def load_identified(
    network: Network,
    path: str | Source,
    *,
    device: str | torch.device = "cpu",
    normalise: MeanStd | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    timesteps: int | None = None,
) -> Model:
    """:func:`load` of a network that was identified already, in the file ``path``, which is open."""
    if not network.described and not network.has_head:
        raise CheckpointError(
            f"{path} {network.ending}, so it cannot classify",
            "It can still start a student: idsnn init --from FILE --num-classes N.",
        )
    require_kind(network.neurons, learnt_decays(network.decays, network.read), network.where, network.told_neuron)
    architecture = network.architecture
    if timesteps is not None:
        architecture = _timed(architecture, timesteps, path)
    if bottleneck_stride is not None:
        striding = architecture.striding(bottleneck_stride, path)
        if network.described and striding != architecture:
            raise UsageError(f"{path} says itself where its blocks stride", "Leave the bottleneck's stride out.")
        architecture = striding
    model = build(architecture, seed=0)
    stem = network.names.get(f"{architecture.stem_convolution().name}.weight")
    if stem is not None and network.read(stem).dtype == torch.float64:
        model.double()
    _fill(model, network, network.where)
    if network.carries_normalisation and normalise is not None:
        raise UsageError(f"{path} carries its own input normalisation", "Leave the normalisation out.")
    normalise = normalise or network.normalisation
    if "input.mean" in network.names:
        pass
    elif normalise is None:
        raise UsageError(
            f"{path} does not say how its images were normalised",
            f"Name it: teacher.normalise={_NAMED if architecture.in_channels == 3 else _OTHERS}, or auto, which finds "
            "it from training images; in Python normalise=(mean, std).",
        )
    else:
        require_values(normalise, architecture.in_channels, path)
        model.set_normalisation(*normalise)
    return model.to(torch.device(device)).eval()


def _timed(architecture: Architecture, timesteps: int, path: str | Source) -> Architecture:
    """``architecture`` for so many time steps."""
    if architecture.kind == "ann":
        raise UsageError(f"{path} is an ANN, which has no time steps", "Leave timesteps out.")
    return architecture.changed(timesteps=timesteps)


def assemble(network: Network, where: str | Path, normalise: MeanStd) -> Model:
    """The network that ``network`` names the tensors of, as a module on the CPU in evaluation mode.

    ``normalise`` is used where the source does not carry its input normalisation; a source without a linear layer gets
    a random one of one class. Raises :class:`CheckpointError` for tensors that are missing, not finite, or
    variances below 0.
    """
    require_kind(network.neurons, learnt_decays(network.decays, network.read), str(where), network.told_neuron)
    model = build(network.architecture, seed=0)
    _fill(model, network, str(where))
    if "input.mean" not in network.names:
        values = network.normalisation or normalise
        require_values(values, network.architecture.in_channels, where)
        model.set_normalisation(*values)
    return model.eval()


def _fill(model: Model, network: Network, path: str) -> None:
    """Copy the file's tensors into ``model``, checking that all are there, floats finite and variances not below 0."""
    for name, own in model.state_dict().items():
        key = network.names.get(name)
        if key is None:
            if network.described:
                raise CheckpointError(
                    f"{path} lacks the tensor {name} of a {model.architecture.describe()}",
                    "Make the checkpoint again: this one is incomplete.",
                )
            # Older files have no batch counter, foreign ones no input normalisation; recognise() saw to the rest.
            continue
        stored: Tensor = network.read(key)
        if own.is_floating_point():
            stored = floating(f"{path}: {key}", stored).to(own.dtype)
        if stored.is_floating_point() and not torch.isfinite(stored).all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinite values", "Use another checkpoint.")
        if name.endswith(".limit") and not network.described and bool((stored <= 0).any()):
            raise CheckpointError(
                f"{path}: {key} holds a threshold of {float(stored.min()):g}, and an activation's is above 0",
                "Use another checkpoint: its training drove a layer's range below 0.",
            )
        if name.endswith(".running_var") and bool((stored < 0).any()):
            raise CheckpointError(
                f"{path}: {key} holds a variance of {float(stored.min()):g}, and none is below 0",
                "Use another checkpoint: this one is damaged.",
            )
        own.copy_(stored.reshape(own.shape))  # some libraries write further axes of one
