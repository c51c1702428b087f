"""``timm:NAME[.TAG]``: weights that timm publishes, by its own list of them, from the hub where they lie."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsnn_cli.errors import UsageError, did_you_mean
from idsnn_cli.extras import require_extra
from idsnn_cli.sources.kinds.hf import KIND as _HUB
from idsnn_cli.sources.kinds.hf import normalisation_words
from idsnn_cli.sources.names import Download, Kind, MeanStd, Say
from idsnn_cli.text import excerpt

if TYPE_CHECKING:
    from idsnn_cli.hub.reading import Stored

# The files of timm's in which ResNets are that are read here; names of tensors decide about each.
FAMILIES = ("resnet", "resnetv2", "senet")
# CLIP's ResNets stand among others; how they pool is known.
_CLIP = re.compile(r"resnet\w+_clip(_gap)?")
_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")
# The layers of ResNets that are read; a block's ``aa`` is a pool that no name of a tensor tells.
_LAYERS = {
    *("Conv1d", "Conv2d", "Linear", "BatchNorm2d", "BatchNormAct2d", "ReLU", "Sigmoid", "Identity", "Flatten"),
    *("MaxPool2d", "AvgPool2d", "AvgPool2dSame", "AdaptiveAvgPool2d", "FastAdaptiveAvgPool2d", "Dropout"),
}


class TimmKind(Kind):
    """Addresses are ``NAME`` or ``NAME.TAG``, timm's words; without TAG they are the weights that timm prefers."""

    form = "timm:NAME[.TAG]"
    strides_known = True

    def parse(self, text: str) -> str:
        name = text.lower()
        if not _NAME.fullmatch(name):
            raise UsageError(f"'timm:{excerpt(text)}' is no name of timm's", "Give timm:NAME or timm:NAME.TAG.")
        return name

    def cached_file(self, address: str) -> Path:
        return _HUB.cached_file(_on_hub(address))

    def needed_download(self, address: str) -> Download | None:
        found = _HUB.needed_download(_on_hub(address))
        return None if found is None else Download(f"timm:{address}", found.url, found.megabytes)

    def fetch(self, address: str, say: Say | None) -> Path:
        return _HUB.fetch(_on_hub(address), say)

    def foresight(self, address: str) -> str | None:
        return _HUB.foresight(_on_hub(address))

    def tensors(self, address: str) -> dict[str, Stored]:
        return _HUB.tensors(_on_hub(address))

    def strings(self, address: str) -> dict[str, str]:
        return _HUB.strings(_on_hub(address))

    def normalisation(self, address: str) -> MeanStd:
        """By timm's configuration of these weights."""
        config = configuration(address)
        return tuple(config.mean), tuple(config.std)

    def origin(self, address: str) -> dict[str, str]:
        config = configuration(address)
        return {"name": f"timm:{config.architecture}.{config.tag}", **_HUB.origin(_on_hub(address))}

    def settle(self, address: str, origin: Mapping[str, str]) -> None:
        _HUB.settle(_on_hub(address), origin)

    def remark(self, address: str) -> str:
        config, words = configuration(address), normalisation_words(self.normalisation(address))
        name = f"{config.architecture}.{config.tag}"
        return f"timm's configuration of {name} says that it tells {config.num_classes:,} classes apart and {words}"


KIND = TimmKind()


def _on_hub(address: str) -> str:
    """The address on the hub of the weights' repository."""
    return _HUB.parse(configuration(address).hf_hub_id)


@cache
def configuration(address: str) -> Any:
    """timm's record of these weights.

    Raises :class:`UsageError` for a network that timm does not have, or has no such weights of, or that is no ResNet,
    and :class:`MissingPackageError` where timm is not installed.
    """
    require_extra("timm", f"timm:{address}", "timm", "huggingface_hub")
    import timm  # takes seconds and imports torch, which reading a file need not pay

    name, _, tag = address.partition(".")
    if not timm.is_model(name):
        known = [each for family in FAMILIES for each in timm.list_models(module=family)]
        raise UsageError(f"timm {timm.__version__} has no '{name}'.{did_you_mean(name, known)}", "Correct the name.")
    published = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
    if not published:
        raise UsageError(
            f"timm:{name}: timm {timm.__version__} publishes no weights of it",
            "Name another, or give a file with its weights.",
        )
    if tag and tag not in published:
        raise UsageError(
            f"timm:{name}: timm publishes no weights '{tag}' of it; it has {', '.join(published)}."
            f"{did_you_mean(tag, published)}",
            f"Correct the name, or leave it out: timm:{name}.",
        )
    _require_resnet(name)
    config: Any = timm.models.get_pretrained_cfg(address)
    if not config.hf_hub_id:
        raise UsageError(
            f"timm:{address}: timm keeps these weights at {config.url}, and not on the hub",
            "Download that file, and give its path.",
        )
    return config


def _require_resnet(name: str) -> None:
    """Raise :class:`UsageError` where timm's network has other layers than ResNets that are read, naming them."""
    import timm
    import torch

    fix = "Give a ResNet of timm's with BatchNorm, ReLU and no pools in its blocks, as timm:resnet18 is."
    family = next((each for each in timm.list_modules() if timm.models.is_model_in_modules(name, [each])), "another")
    if family == "vgg":
        raise UsageError(
            f"timm:{name}: timm has a VGG's linear layers as convolutions, which are not read here",
            "Give torchvision's, as torchvision:vgg16_bn, which has the same weights.",
        )
    if _CLIP.fullmatch(name):
        return
    if family not in FAMILIES:
        raise UsageError(f"timm:{name} is no ResNet: timm has it in its file {family}", fix)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        network = timm.create_model(name, pretrained=False)
    kinds = {
        each: type(layer).__name__
        for each, layer in network.named_modules()
        if not list(layer.children()) or list(layer.parameters(recurse=False))
    }
    odd = sorted(set(kinds.values()) - _LAYERS)
    if any(each.rpartition(".")[2] == "aa" and kind != "Identity" for each, kind in kinds.items()):
        odd.append("pools in its blocks")
    if odd:
        raise UsageError(f"timm:{name} is no ResNet that is read here: it has {', '.join(odd)}", fix)
