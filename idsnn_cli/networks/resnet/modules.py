"""The modules of a ResNet, ANN or spiking: stem, blocks, shortcuts. Their attribute names are the canonical ones.

Maps have time merged into the batch: (T * N, C, H, W), T = 1 in an ANN.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.architecture import Convolution
from idsnn_cli.models.amplitudes import AmplifiedShortcut, Amplitude
from idsnn_cli.models.base import Activation
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.attention import ChannelConvolution, SqueezeExcitation
from idsnn_cli.networks.resnet.blocks import AveragedProjection, PaddedIdentity
from idsnn_cli.networks.resnet.stems import AveragePool, CeilPool, StridedConvolution
from idsnn_cli.spiking import BatchNorm, add_normed, fire, fire_membranes


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, groups: int) -> Tensor:
    """A 1x1 convolution that strides by taking every ``stride``-th pixel first.

    oneDNN's strided 1x1 backward crashes the process on NHWC maps of few channels (torch 2.15, 8 to 16 channels,
    batch 29), and reading only the pixels that are used is no slower.
    """
    return F.conv2d(every_pixel(x, stride), weight, bias, groups=groups)


def every_pixel(x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th row and column of maps (N, C, H, W), from the first.

    A mean over windows of one pixel, for its gradient keeps NHWC order where that of a slice is NCHW and then copied.
    """
    return F.avg_pool2d(x, 1, stride) if stride > 1 else x


def convolution(plan: Convolution) -> nn.Conv2d:
    """The plain layer of torch, by whose type tools that count and trace know it."""
    conv = nn.Conv2d(
        plan.in_channels, plan.out_channels, plan.kernel, plan.stride, plan.padding, groups=plan.groups, bias=False
    )
    if plan.kernel == 1:
        # Of the layer's own, for a subclass would be another type.
        conv._conv_forward = partial(pointwise, stride=plan.stride, groups=plan.groups)  # type: ignore[method-assign]
    return conv


class ConvNorm(nn.Module):
    """A convolution and its BatchNorm, where it has one, as ``.conv`` and ``.norm``."""

    def __init__(self, plan: Convolution) -> None:
        super().__init__()
        self.conv = convolution(plan)
        self.normed = plan.norm is not None
        if self.normed:
            self.norm = BatchNorm(plan.out_channels)

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        y: Tensor = self.conv(x)
        return self.norm(y, repeat) if self.normed else y


class AverageProjection(ConvNorm):
    """ResNet-D's shortcut: the mean of every 2x2 pixels, then the 1x1 convolution and its BatchNorm."""

    def __init__(self, plan: Convolution, whole: bool) -> None:
        """``whole``: of an odd map the last row or column is left out, instead of a mean of the pixels there are."""
        super().__init__(plan)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=not whole, count_include_pad=False)

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        return super().forward(self.pool(x), repeat)


class PadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zero channels before and after."""

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(every_pixel(x, self.stride), (0, 0, 0, 0, self.before, self.after))


def shortcut(architecture: ResNetArchitecture, stage: int, block: int) -> nn.Module:
    """The way around a block: a projection, an averaged one, option A, or the identity."""
    projection = architecture.shortcut_convolution(stage, block)
    stride = architecture.block_stride(stage, block)
    if projection is not None:
        averages = isinstance(architecture.shortcut_part, AveragedProjection) and stride > 1
        return AverageProjection(projection, architecture.rounds_down) if averages else ConvNorm(projection)
    entry = architecture.block_input(stage, block)
    extra = architecture.stage_channels(stage) - entry
    part = architecture.shortcut_part
    before = part.before(extra) if isinstance(part, PaddedIdentity) else 0
    way = nn.Identity() if (stride, extra) == (1, 0) else PadShortcut(stride, before, extra - before)
    if not architecture.scaled_shortcuts:
        return way
    return AmplifiedShortcut(1 if architecture.amplitude == "folded-layer" else entry, way)


class SqueezeExcitationModule(nn.Module):
    """Each channel times a gate in 0 to 1, which two 1x1 convolutions make of all channels' means."""

    def __init__(self, channels: int, inner: int, bias: bool, activated: bool) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1, bias=bias)
        self.expand = nn.Conv2d(inner, channels, 1, bias=bias)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x) if self.activated else x
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(means))))


class ChannelAttention(nn.Module):
    """Each channel times a gate in 0 to 1, made of the means of the channels beside it."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gates = torch.sigmoid(self.mix(x.mean((2, 3)).unsqueeze(1)))
        return x * gates.view(*x.shape[:2], 1, 1)


def attention(architecture: ResNetArchitecture, stage: int) -> nn.Module:
    """What stands behind a block's last BatchNorm: attention, or the identity."""
    part = architecture.attention_part
    if isinstance(part, SqueezeExcitation):
        return SqueezeExcitationModule(architecture.stage_channels(stage), part.sizes[stage], part.bias, part.activated)
    return ChannelAttention(part.sizes[stage]) if isinstance(part, ChannelConvolution) else nn.Identity()


class ResidualBlock(nn.Module):
    """conv-BN-act ... conv-BN, add the shortcut, act: basic or bottleneck, ANN or "spiking" (Figure 1b)."""

    def __init__(self, architecture: ResNetArchitecture, stage: int, block: int, activation: Activation) -> None:
        super().__init__()
        plans = architecture.block_convolutions(stage, block)
        self.length, self.amplified = len(plans), architecture.amplitude == "channel"
        for i, plan in enumerate(plans):
            self.add_module(f"conv{i}", convolution(plan))
            self.add_module(f"norm{i}", BatchNorm(plan.out_channels))
            self.add_module(f"act{i}", activation())
            if self.amplified:
                self.add_module(f"amplitude{i}", Amplitude(plan.out_channels))
        averages = architecture.block_part.halves_inside(architecture.block_stride(stage, block))
        # Both ways must give maps of one size.
        up = not architecture.rounds_down
        self.pool = nn.AvgPool2d(2, ceil_mode=up, count_include_pad=False) if averages else nn.Identity()
        self.attention = attention(architecture, stage)
        self.shortcut = shortcut(architecture, stage, block)

    def parts(self, i: int) -> tuple[nn.Module, BatchNorm, nn.Module]:
        """Convolution, BatchNorm and activation number ``i``."""
        norm = self.get_submodule(f"norm{i}")
        assert isinstance(norm, BatchNorm)
        return self.get_submodule(f"conv{i}"), norm, self.get_submodule(f"act{i}")

    def amplify(self, i: int, spikes: Tensor) -> Tensor:
        """What activation number ``i`` gave, times its channels' learnt amplitudes where there are such."""
        y: Tensor = self.get_submodule(f"amplitude{i}")(spikes) if self.amplified else spikes
        return y

    def inside(self, x: Tensor) -> Tensor:
        """The main path up to its last convolution, whose output this is."""
        for i in range(self.length - 1):
            conv, norm, act = self.parts(i)
            x = self.amplify(i, fire(norm, act, conv(x)))
            if i == 1:  # a bottleneck's second
                x = self.pool(x)
        y: Tensor = self.parts(self.length - 1)[0](x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        _, norm, act = self.parts(self.length - 1)
        if isinstance(self.attention, nn.Identity):
            return self.amplify(self.length - 1, fire(norm, act, self.inside(x), self.shortcut(x)))
        y: Tensor = act(self.attention(norm(self.inside(x))) + self.shortcut(x))
        return y


class PreactivationBlock(nn.Module):
    """BN-act-conv two or three times, and the shortcut added: the blocks of "identity mappings" (v2), of ANNs only."""

    def __init__(self, architecture: ResNetArchitecture, stage: int, block: int, activation: Activation) -> None:
        super().__init__()
        plans = architecture.block_convolutions(stage, block)
        self.length = len(plans)
        for i, plan in enumerate(plans):
            self.add_module(f"norm{i}", BatchNorm(plan.norm_channels))
            self.add_module(f"act{i}", activation())
            self.add_module(f"conv{i}", convolution(plan))
        self.shortcut = shortcut(architecture, stage, block)
        self.projects = architecture.shortcut_convolution(stage, block) is not None

    def forward(self, x: Tensor) -> Tensor:
        branch = around = x
        for i in range(self.length):
            branch = self.get_submodule(f"act{i}")(self.get_submodule(f"norm{i}")(branch))
            if i == 0 and self.projects:
                around = self.shortcut(branch)
            branch = self.get_submodule(f"conv{i}")(branch)
        return branch + around


class SEWBlock(ResidualBlock):
    """Spike-element-wise block (Figure 1c): LIF before the join, then ADD, AND or IAND.

    A projection is followed by a LIF of its own, so that both sides of the join are spikes.
    """

    def __init__(self, architecture: ResNetArchitecture, stage: int, block: int, activation: Activation) -> None:
        super().__init__(architecture, stage, block, activation)
        self.join = architecture.join
        self.shortcut_act = activation() if isinstance(self.shortcut, ConvNorm) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        _, norm, act = self.parts(self.length - 1)
        branch = fire(norm, act, self.inside(x))
        if isinstance(self.shortcut, ConvNorm):
            around = fire(self.shortcut.norm, self.shortcut_act, self.shortcut.conv(x))
        else:
            around = self.shortcut(x)
        if self.join == "add":
            return branch + around
        return branch * around if self.join == "and" else (1 - branch) * around


class MembraneBlock(ResidualBlock):
    """MS-ResNet's: act-conv-BN two or three times, the shortcut added, and no neuron behind the sum.

    The stream holds membranes: a projection, without a neuron of its own, reads them as they are. A ``gain`` multiplies
    them for the first neurons alone, which is as if their threshold were theta over it.
    """

    def __init__(self, architecture: ResNetArchitecture, stage: int, block: int, activation: Activation) -> None:
        super().__init__(architecture, stage, block, activation)
        self.gain = None
        if architecture.gains:
            entry = architecture.block_input(stage, block)
            self.gain = Amplitude(1 if architecture.amplitude == "folded-layer" else entry)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, act = self.parts(0)
        spikes, around = fire_membranes(act, x, None if self.gain is None else self.gain.weight)
        for i in range(1, self.length):
            following = self.parts(i)
            spikes = fire(norm, following[2], conv(spikes))
            conv, norm, _ = following
        total: Tensor = add_normed(norm, conv(spikes), self.shortcut(around))
        return total


def stem_pool(architecture: ResNetArchitecture) -> nn.Module:
    """What stands behind a stem's last activation."""
    stem = architecture.stem_part
    if stem.kind == "3x3" or isinstance(stem.pool, StridedConvolution):
        return nn.Identity()
    if isinstance(stem.pool, AveragePool):
        return nn.AvgPool2d(2)
    return nn.MaxPool2d(3, 2, ceil_mode=True) if isinstance(stem.pool, CeilPool) else nn.MaxPool2d(3, 2, 1)


class StemModule(ConvNorm):
    """The first convolution, its BatchNorm and activation; a 7x7 stem pools after the activation.

    Before pre-activation blocks there are neither BatchNorm nor activation.
    """

    def __init__(self, architecture: ResNetArchitecture, activation: Activation) -> None:
        super().__init__(architecture.stem_convolution())
        self.act = activation()
        self.pool = stem_pool(architecture)
        # Behind the pool, for the largest of several spikes is one that fired, whatever it counts.
        learnt = architecture.amplitude == "channel"
        self.amplitude = Amplitude(architecture.stem_width) if learnt else nn.Identity()

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        """``x`` is (T * N, ...), or (N, ...) with ``repeat`` = T where the input is the same at every step."""
        y: Tensor = self.conv(x)
        pooled: Tensor = self.amplitude(self.pool(fire(self.norm, self.act, y, repeat=repeat) if self.normed else y))
        return pooled


class MembraneStem(ConvNorm):
    """The stem before MS blocks: a convolution, its BatchNorm and, of 7x7, the pool, over membranes."""

    def __init__(self, architecture: ResNetArchitecture, activation: Activation) -> None:
        super().__init__(architecture.stem_convolution())
        self.pool = stem_pool(architecture)

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        """``x`` is (T * N, ...), or (N, ...) with ``repeat`` = T where the input is the same at every step."""
        y: Tensor = self.pool(super().forward(x, repeat))
        # Joined, for a repeated map is NCHW whatever it was.
        return torch.cat([y] * repeat) if repeat > 1 else y


class DeepStemModule(nn.Module):
    """Several 3x3 convolutions, each with its BatchNorm and activation, and the pool; of ANNs only."""

    def __init__(self, architecture: ResNetArchitecture, activation: Activation) -> None:
        super().__init__()
        plans = architecture.stem_convolutions()
        self.length, self.normed = len(plans), plans[-1].norm is not None
        for i, plan in enumerate(plans):
            self.add_module(str(i), ConvNorm(plan))
        self.act = activation()
        self.pool = stem_pool(architecture)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.length):
            x = self.get_submodule(str(i))(x)
            if self.normed or i < self.length - 1:
                x = self.act(x)
        pooled: Tensor = self.pool(x)
        return pooled
