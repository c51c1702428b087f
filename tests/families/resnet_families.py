"""Small networks built as each family builds its own, for the recogniser's tests.

Every convolution, norm and linear layer carries, as ``place``, the canonical name of the place where it stands, so
the right answer comes from where a module was built and not from any table of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """What to build. ``projections`` False leaves widening shortcuts without weights (option A)."""

    bottleneck: bool = False
    depths: tuple[int, ...] = (2, 2, 2)
    widths: tuple[int, ...] = (4, 8, 16)
    kernel: int = 3
    classes: int = 7
    projections: bool = True

    @property
    def growth(self) -> int:
        return 4 if self.bottleneck else 1

    def blocks(self) -> Iterator[tuple[int, int, int, int, str]]:
        """Stage, block, channels in, inner width and place of every block."""
        before = self.widths[0]
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            for number in range(depth):
                yield stage, number, before, width, f"stages.{stage}.{number}"
                before = width * self.growth

    def projects(self, stage: int, number: int, entry: int, width: int) -> bool:
        return self.projections and number == 0 and (stage > 0 or entry != width * self.growth)

    def plan(self, entry: int, width: int) -> list[tuple[int, int, int]]:
        """(in, out, kernel) of a block's convolutions."""
        if self.bottleneck:
            return [(entry, width, 1), (width, width, 3), (width, 4 * width, 1)]
        return [(entry, width, 3), (width, width, 3)]


def conv(place: str, c_in: int, c_out: int, kernel: int) -> nn.Conv2d:
    module = nn.Conv2d(c_in, c_out, kernel, bias=False)
    vars(module)["place"] = place
    return module


def norm(place: str, channels: int) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(channels)
    vars(module)["place"] = place
    return module


def linear(size: Size) -> nn.Linear:
    module = nn.Linear(size.widths[-1] * size.growth, size.classes)
    vars(module)["place"] = "head"
    return module


def answer(network: nn.Module, prefix: str = "") -> tuple[dict[str, Shape], dict[str, str]]:
    """The network's shapes by key, and the mapping canonical name -> key that is right for it."""
    shapes = {prefix + key: tuple(value.shape) for key, value in network.state_dict().items()}
    names = {}
    for path, module in network.named_modules():
        if "place" in vars(module):
            own = (leaf for leaf in module.state_dict() if "." not in leaf)
            names.update({f"{vars(module)['place']}.{leaf}": f"{prefix}{path}.{leaf}" for leaf in own})
    return shapes, names


class TorchvisionBlock(nn.Module):
    def __init__(self, size: Size, stage: int, number: int, entry: int, width: int, at: str, shortcut: str) -> None:
        super().__init__()
        for i, (c_in, c_out, kernel) in enumerate(size.plan(entry, width)):
            self.add_module(f"conv{i + 1}", conv(f"{at}.conv{i}", c_in, c_out, kernel))
            self.add_module(f"bn{i + 1}", norm(f"{at}.norm{i}", c_out))
        outer = width * size.growth
        if size.projects(stage, number, entry, width):
            pair = nn.Sequential(conv(f"{at}.shortcut.conv", entry, outer, 1), norm(f"{at}.shortcut.norm", outer))
            self.add_module(shortcut, pair)
        elif shortcut == "shortcut":
            self.shortcut = nn.Sequential()


def in_stages(network: nn.Module, name: str, first: int, size: Size, make: Callable[..., nn.Module]) -> None:
    stages: list[list[nn.Module]] = [[] for _ in size.depths]
    for stage, number, entry, width, at in size.blocks():
        stages[stage].append(make(size, stage, number, entry, width, at))
    for stage, blocks in enumerate(stages):
        network.add_module(name.format(stage + first), nn.Sequential(*blocks))


class Torchvision(nn.Module):
    """Also chenyaofo's and timm's; ``head`` and ``shortcut`` make it kuangliu's and akamaster's."""

    def __init__(self, size: Size, head: str | None = "fc", shortcut: str = "downsample") -> None:
        super().__init__()
        self.conv1 = conv("stem.conv", 3, size.widths[0], size.kernel)
        self.bn1 = norm("stem.norm", size.widths[0])
        in_stages(self, "layer{}", 1, size, partial(TorchvisionBlock, shortcut=shortcut))
        if head is not None:
            self.add_module(head, linear(size))


class SpikingTorchvision(Torchvision):
    """As SpikingJelly builds it: neurons beside the layers, without weights."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.sn1 = nn.ReLU()
        self.flatten = nn.Flatten()


class HuggingFaceLayer(nn.Module):
    def __init__(self, place: str, at: int | None, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        dot = "." if at is None else ""
        index = "" if at is None else str(at)
        self.convolution = conv(f"{place}{dot}conv{index}", c_in, c_out, kernel)
        self.normalization = norm(f"{place}{dot}norm{index}", c_out)


class HuggingFaceBlock(nn.Module):
    def __init__(self, size: Size, stage: int, number: int, entry: int, width: int, at: str) -> None:
        super().__init__()
        outer = width * size.growth
        projects = size.projects(stage, number, entry, width)
        self.shortcut = HuggingFaceLayer(f"{at}.shortcut", None, entry, outer, 1) if projects else nn.Identity()
        plan = enumerate(size.plan(entry, width))
        self.layer = nn.Sequential(*(HuggingFaceLayer(f"{at}.", i, *sizes) for i, sizes in plan))


class HuggingFaceBackbone(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embedder = nn.Module()
        self.embedder.embedder = HuggingFaceLayer("stem", None, 3, size.widths[0], size.kernel)
        holder = nn.Module()
        in_stages(holder, "{}", 0, size, HuggingFaceBlock)
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList()
        for blocks in holder.children():
            stage = nn.Module()
            stage.layers = blocks
            self.encoder.stages.append(stage)


class HuggingFace(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.resnet = HuggingFaceBackbone(size)
        self.classifier = nn.Sequential(nn.Flatten(), linear(size))


class PyclsBlock(nn.Module):
    def __init__(self, size: Size, stage: int, number: int, entry: int, width: int, at: str) -> None:
        super().__init__()
        outer = width * size.growth
        if size.projects(stage, number, entry, width):
            self.proj = conv(f"{at}.shortcut.conv", entry, outer, 1)
            self.bn = norm(f"{at}.shortcut.norm", outer)
        self.f = nn.Module()
        for i, (letter, (c_in, c_out, kernel)) in enumerate(zip("abc", size.plan(entry, width), strict=False)):
            self.f.add_module(letter, conv(f"{at}.conv{i}", c_in, c_out, kernel))
            self.f.add_module(f"{letter}_bn", norm(f"{at}.norm{i}", c_out))


class Pycls(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv = conv("stem.conv", 3, size.widths[0], size.kernel)
        self.stem.bn = norm("stem.norm", size.widths[0])
        for stage, number, entry, width, at in size.blocks():
            if number == 0:
                self.add_module(f"s{stage + 1}", nn.Module())
            block = PyclsBlock(size, stage, number, entry, width, at)
            self.get_submodule(f"s{stage + 1}").add_module(f"b{number + 1}", block)
        self.head = nn.Module()
        self.head.fc = linear(size)


class FrozenNorm(nn.Module):
    """detectron2's: four buffers, and no count of batches."""

    def __init__(self, place: str, channels: int) -> None:
        super().__init__()
        vars(self)["place"] = place
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.zeros(channels))


def normed(place: str, at: int | None, c_in: int, c_out: int, kernel: int) -> nn.Conv2d:
    index = "" if at is None else str(at)
    module = conv(f"{place}conv{index}", c_in, c_out, kernel)
    module.norm = FrozenNorm(f"{place}norm{index}", c_out)
    return module


class Detectron2Block(nn.Module):
    def __init__(self, size: Size, stage: int, number: int, entry: int, width: int, at: str) -> None:
        super().__init__()
        if size.projects(stage, number, entry, width):
            self.shortcut = normed(f"{at}.shortcut.", None, entry, width * size.growth, 1)
        for i, sizes in enumerate(size.plan(entry, width)):
            self.add_module(f"conv{i + 1}", normed(f"{at}.", i, *sizes))


class Detectron2(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = normed("stem.", None, 3, size.widths[0], size.kernel)
        in_stages(self, "res{}", 2, size, Detectron2Block)


class Mmpretrain(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.backbone = Torchvision(size, head=None)
        self.head = nn.Module()
        self.head.fc = linear(size)


class ConvModule(nn.Module):
    """OpenMMLab's pair of a convolution and its norm."""

    def __init__(self, at: int, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv(f"stem.{at}.conv", c_in, c_out, 3)
        self.bn = norm(f"stem.{at}.norm", c_out)


class AveragedBlock(TorchvisionBlock):
    """Pools before the projection where the block strides, and only there."""

    def __init__(self, size: Size, stage: int, number: int, entry: int, width: int, at: str, shortcut: str) -> None:
        super().__init__(size, stage, number, entry, width, at, shortcut)
        if stage > 0 and number == 0:
            self.add_module(shortcut, nn.Sequential(nn.AvgPool2d(2), *self.get_submodule(shortcut).children()))


class MmpretrainDeep(nn.Module):
    """ResNetV1c, and with ``averaged`` ResNetV1d; the stem ends as wide as the first stage."""

    def __init__(self, size: Size, averaged: bool) -> None:
        super().__init__()
        width, block = size.widths[0], AveragedBlock if averaged else TorchvisionBlock
        half = width // 2
        self.backbone = nn.Module()
        self.backbone.stem = nn.Sequential(*map(ConvModule, (0, 1, 2), (3, half, half), (half, half, width)))
        in_stages(self.backbone, "layer{}", 1, size, partial(block, shortcut="downsample"))
        self.head = nn.Module()
        self.head.fc = linear(size)


class WrappedNorm(nn.Module):
    """The release's BatchNorm over time, around an ordinary one."""

    def __init__(self, place: str, channels: int) -> None:
        super().__init__()
        self.bn = norm(place, channels)


def weiaicunzai_block(size: Size, stage: int, number: int, entry: int, width: int, at: str, wrap: bool) -> nn.Module:
    make: Callable[[str, int], nn.Module] = WrappedNorm if wrap else norm
    layers: list[nn.Module] = []
    for i, (c_in, c_out, kernel) in enumerate(size.plan(entry, width)):
        layers += [nn.ReLU()] if i else []
        layers += [conv(f"{at}.conv{i}", c_in, c_out, kernel), make(f"{at}.norm{i}", c_out)]
    block = nn.Module()
    block.residual_function = nn.Sequential(*layers)
    block.shortcut = nn.Sequential()
    outer = width * size.growth
    if size.projects(stage, number, entry, width):
        block.shortcut = nn.Sequential(conv(f"{at}.shortcut.conv", entry, outer, 1), make(f"{at}.shortcut.norm", outer))
    return block


class Weiaicunzai(nn.Module):
    def __init__(self, size: Size, wrap: bool = False) -> None:
        super().__init__()
        make: Callable[[str, int], nn.Module] = WrappedNorm if wrap else norm
        width = size.widths[0]
        self.conv1 = nn.Sequential(conv("stem.conv", 3, width, size.kernel), make("stem.norm", width), nn.ReLU())
        in_stages(self, "conv{}_x", 2, size, partial(weiaicunzai_block, wrap=wrap))
        self.fc = linear(size)


class EhanWBlock(nn.Module):
    def __init__(self, size: Size, stage: int, number: int, entry: int, width: int, at: str) -> None:
        super().__init__()
        for i, (c_in, c_out, kernel) in enumerate(size.plan(entry, width)):
            self.add_module(f"conv_{i + 1}", conv(f"{at}.conv{i}", c_in, c_out, kernel))
            self.add_module(f"bn_{i + 1}", norm(f"{at}.norm{i}", c_out))
        outer = width * size.growth
        if size.projects(stage, number, entry, width):
            self.downsample = nn.Sequential(
                conv(f"{at}.shortcut.conv", entry, outer, 1), norm(f"{at}.shortcut.norm", outer)
            )


class EhanW(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv_1 = conv("stem.conv", 3, size.widths[0], size.kernel)
        self.bn_1 = norm("stem.norm", size.widths[0])
        in_stages(self, "stage_{}", 1, size, EhanWBlock)
        self.fc = linear(size)


# Scheme -> builders of the families that carry its names.
BUILDERS: dict[str, Callable[[Size], nn.Module]] = {
    "torchvision": Torchvision,
    "spikingjelly": SpikingTorchvision,
    "huggingface": HuggingFace,
    "pycls": Pycls,
    "detectron2": Detectron2,
    "mmpretrain": Mmpretrain,
    "kuangliu": lambda size: Torchvision(size, head="linear", shortcut="shortcut"),
    "weiaicunzai": Weiaicunzai,
    "release-student": lambda size: Weiaicunzai(size, wrap=True),
    "ehanw": EhanW,
}
