"""What every network is as a module: images in, logits out, time inside, its own input normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from idsnn_cli.architecture import QCFS as QCFSActivation
from idsnn_cli.architecture import START_SHIFT, Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.models.channels import IMAGE, MEAN, in_range, require_values, shown
from idsnn_cli.spiking import LIF, PoissonEncoder
from idsnn_cli.spiking.qcfs import QCFS
from idsnn_cli.spiking.traced import is_traced

Activation = Callable[[], nn.Module]
# It looks at shapes, which torch.fx does not trace: one node in its graphs.
torch.fx.wrap("shown")
# What people call constants of the description, which a built network reads nowhere.
DESCRIBED = frozenset(
    {
        *("T", "timesteps", "time_steps", "time_step", "num_steps", "step_mode", "neuron", "v_threshold", "threshold"),
        *("decay", "tau", "beta", "v_reset", "reset", "start", "surrogate", "surrogate_scale", "surrogate_function"),
        *("kind", "coding", "join", "spiking", "spiking_block", "amplitude", "learn_decay", "learn_start", "levels"),
        *("num_classes", "in_channels", "depths", "widths", "mean", "std", "normalise", "normalisation"),
        "activation_kind",
    }
)


class InputNormalisation(nn.Module):
    """(x - mean) / std per channel, on images in 0 to 1; the network's own and carried in its checkpoint.

    The result has the network's dtype.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std


class Model(nn.Module):
    """A network of any family: ``stem``, ``stages`` and ``head``, which the family's subclass makes and names so.

    Images are (N, C, H, W) in 0 to 1; a network of one channel takes the mean of three, one of three shows itself grey
    in each. A network of ``frames`` coding reads recordings (N, T, C, H, W), a frame at each step, and an ANN their
    mean over time. An ANN gives logits (N, K); a spiking network one row of logits per time step,
    (T, N, K). Its layers see maps with time merged into the batch, (T * N, C, H, W), so that convolutions and BatchNorm
    run on T * N maps at once. The linear layer is affine, so the mean of these logits over time is the paper's readout:
    the linear layer on the mean of the pooled spikes.
    """

    architecture: Architecture
    stem: nn.Module
    stages: nn.Sequential
    head: nn.Linear

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self._looked_at = False
        self._least_side = architecture.least_side()
        self.input = InputNormalisation(architecture.in_channels)
        poisson = architecture.coding == "poisson"
        self.encoder = PoissonEncoder(architecture.timesteps) if poisson else None

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises :class:`UsageError` for what would change nothing, or only a part: the network is what it was built
        as."""
        if name in DESCRIBED or (name == "architecture" and "architecture" in self.__dict__):
            fix = {
                "mean": "Use model.set_normalisation(mean, std).",
                "std": "Use model.set_normalisation(mean, std).",
            }.get(name, "For another T: idsnn_cli.load(path, timesteps=T). All else: models.build(description, seed).")
            raise UsageError(f"setting {name} would not change the network, which is built already", fix)
        super().__setattr__(name, value)

    @property
    def timesteps(self) -> int:
        """T; 1 of an ANN."""
        return self.architecture.timesteps

    def activation(self) -> Activation:
        """What makes the activations between its layers: neurons in a spiking network."""
        architecture = self.architecture
        if architecture.spiking is not None:
            learns = architecture.learn_decay == "layer"
            return lambda: LIF(architecture.neuron, architecture.timesteps, learn_decay=learns)
        if isinstance(architecture.activation, QCFSActivation):
            return lambda: QCFS(architecture.levels)
        return nn.ReLU

    def share_ranges(self) -> None:
        """Give learnt activations the ranges that the description says: one for those that shortcuts join, or one for
        each channel.
        """
        shapes = self.architecture.tensors()
        for name, owner in self.architecture.activations():
            shape = shapes[f"{owner}.limit"]
            if shape:
                own = self.get_submodule(name)
                assert isinstance(own, QCFS)
                own.limit = nn.Parameter(torch.empty(shape, device=own.limit.device))
            if name != owner:
                follower, leader = self.get_submodule(name), self.get_submodule(owner)
                assert isinstance(follower, QCFS)
                assert isinstance(leader, QCFS)
                follower.follow(leader)

    def give_starts(self) -> None:
        """Give layers of neurons that learn their starts the tensors that the description says."""
        for name, shape in self.architecture.tensors().items() if self.architecture.learn_start != "none" else ():
            layer, _, leaf = name.rpartition(".")
            if leaf == START_SHIFT:
                own = self.get_submodule(layer)
                assert isinstance(own, LIF)
                own.start_shift = nn.Parameter(torch.empty(shape))

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Give the network its input normalisation, one value per channel, for images in 0 to 1.

        Raises :class:`UsageError` for another number of values.
        """
        require_values((mean, std), self.architecture.in_channels, f"the {self.architecture.name}")
        for buffer, values in ((self.input.mean, mean), (self.input.std, std)):
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self._readout(self.stages(self._entry(images)), images.shape[0])

    def step(self, images: Tensor) -> Tensor:
        """The logits (N, K) of one more time step, in which the neurons go on from where the last one left them.

        ``images`` (N, C, H, W) in 0 to 1 may be others at every step, as in a stream of frames; where they stay, T
        steps from :meth:`reset` give the T rows of :meth:`forward`, and more go on beyond T. A neuron does the same
        arithmetic in both, but convolutions of N maps may round otherwise than those of T * N. A :meth:`forward` in
        between starts anew, and leaves the stream where it is. Raises
        :class:`UsageError` for an ANN, in training mode (whose BatchNorm sees all steps at once), and for images of
        another shape than the step before.
        """
        if self.architecture.spiking is None:
            raise UsageError("an ANN has no time steps", "Call it: model(images).")
        if self.training or any(each.training for each in self.modules() if isinstance(each, nn.BatchNorm2d)):
            raise UsageError(
                "the network, or a part of it, is in training mode, where BatchNorm normalises over all steps at once",
                "Call model.eval() first.",
            )
        neurons = [module for module in self.modules() if isinstance(module, LIF)]
        for neuron in neurons:
            neuron.stepping = True
        try:
            return self._readout(self.stages(self._entry(images, steps=1)), images.shape[0], steps=1)[0]
        finally:
            for neuron in neurons:
                neuron.stepping = False

    def reset(self) -> None:
        """Let all neurons start again, for the next :meth:`step`; :meth:`forward` always starts anew."""
        for module in self.modules():
            if isinstance(module, LIF):
                module.state = None
        if self.encoder is not None:
            self.encoder.reset()

    def with_features(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The logits as :meth:`forward` gives them, and the maps (N, C, H, W) behind each stage.

        A spiking network's are firing rates, the mean over time of the stage's last spikes (of MS blocks, its
        membranes), in float32 at least.
        """
        maps, features = self._entry(images), []
        for stage in self.stages:
            maps = stage(maps)
            features.append(self._feature(maps, images.shape[0]))
        return self._readout(maps, images.shape[0]), tuple(features)

    def join_parts(self) -> None:
        """Let parts whose norms are folded, and that are only read, be computed at once where that is faster."""

    def ending(self, maps: Tensor) -> Tensor:
        """What stands between the last stage and the pooling."""
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """The vectors (T * N, F) that the linear layer reads, of the maps that :meth:`ending` gives."""
        return maps.mean((2, 3))

    def _entry(self, images: Tensor, steps: int | None = None) -> Tensor:
        """What the first stage reads at all T time steps, or at the next one (``steps`` = 1). Raises
        :class:`UsageError` for images that are not in 0 to 1 by their type, no batch by their shape, or too small.
        """
        if isinstance(images, Tensor) and not images.is_floating_point():
            raise UsageError(
                f"the images are {str(images.dtype).removeprefix('torch.')}, and a network reads numbers in 0 to 1",
                "Divide them by 255: images.float() / 255.",
            )
        if isinstance(images, Tensor) and images.dim() < 4:
            raise UsageError(
                f"the images have the shape {list(images.shape)}, and a network reads (N, C, H, W)",
                "Give one image a batch of its own: image[None].",
            )
        # What torch.fx traces with has no size.
        if isinstance(images, Tensor) and min(images.shape[-2:]) < self._least_side:
            self.architecture.require_size(*images.shape[-2:])
        # Looking costs a pass over a batch, and on a GPU a wait for it: one batch tells how somebody loads images.
        if not (self._looked_at or self.architecture.coding == "frames" or is_traced()):
            self._looked_at = in_range(images)
        coding, ann, alone = self.architecture.coding, self.architecture.spiking is None, steps is not None
        count = self.architecture.timesteps if steps is None else steps
        # A frame network is stepped frame by frame.
        form = MEAN if ann else count if coding == "frames" and not alone else IMAGE
        images = shown(images, self.architecture.in_channels, form)
        maps: Tensor
        if ann or coding == "frames":
            maps = self.stem(self.input(images))
        elif self.encoder is None:
            # The same image at every step: the stem's convolution and BatchNorm are computed once.
            maps = self.stem(self.input(images), repeat=count)
        else:
            spikes = self.encoder.step(images) if alone else self.encoder(images).flatten(0, 1)
            maps = self.stem(spikes.to(self.input.mean.dtype))
        return maps

    def _feature(self, maps: Tensor, images: int) -> Tensor:
        if self.architecture.spiking is None:
            return maps
        dtype = torch.promote_types(maps.dtype, torch.float32)
        return maps.view(self.architecture.timesteps, images, *maps.shape[1:]).mean(0, dtype=dtype)

    def _readout(self, maps: Tensor, images: int, steps: int | None = None) -> Tensor:
        """The logits of what the last stage gives for so many images, at all T time steps or so many."""
        features = self.pooled(self.ending(maps))
        if self.architecture.spiking is not None:
            # A process whose shard is empty has N = 0, for which view() could not infer an axis.
            steps = self.architecture.timesteps if steps is None else steps
            features = features.view(steps, images, features.shape[1])
        logits: Tensor = self.head(features)
        return logits
