"""``torchvision:NAME[/WEIGHTS]``: weights that torchvision publishes, in torch's own cache or downloaded into it."""

from __future__ import annotations

import re
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsnn_cli.errors import CheckpointError, UsageError, did_you_mean
from idsnn_cli.sources.names import Download, Kind, MeanStd, Say
from idsnn_cli.text import excerpt

if TYPE_CHECKING:
    from torch import Tensor

# Each network's published weights; the last is torchvision's own default.
_BOTH = ("IMAGENET1K_V1", "IMAGENET1K_V2")
MODELS: dict[str, tuple[str, ...]] = {
    "resnet18": ("IMAGENET1K_V1",),
    "resnet34": ("IMAGENET1K_V1",),
    "resnet50": _BOTH,
    "resnet101": _BOTH,
    "resnet152": _BOTH,
    "resnext50_32x4d": _BOTH,
    "resnext101_32x8d": _BOTH,
    "resnext101_64x4d": ("IMAGENET1K_V1",),
    "wide_resnet50_2": _BOTH,
    "wide_resnet101_2": _BOTH,
    "vgg11_bn": ("IMAGENET1K_V1",),
    "vgg13_bn": ("IMAGENET1K_V1",),
    "vgg16_bn": ("IMAGENET1K_V1",),
    "vgg19_bn": ("IMAGENET1K_V1",),
}


class Torchvision(Kind):
    """Addresses are ``NAME/WEIGHTS``, both in torchvision's own words."""

    form = "torchvision:NAME[/WEIGHTS]"
    strides_known = True

    def parse(self, text: str) -> str:
        """In any case; without WEIGHTS it is torchvision's default."""
        given, slash, wanted = text.partition("/")
        name = given.lower()
        if name not in MODELS:
            raise UsageError(
                f"torchvision publishes no ResNet or VGG '{given}' that is known; it has {', '.join(MODELS)}."
                f"{did_you_mean(name, MODELS)}",
                "Correct the name.",
            )
        weights = wanted.upper() if slash else MODELS[name][-1]
        if weights not in MODELS[name]:
            near = did_you_mean(weights, MODELS[name])
            raise UsageError(
                f"torchvision publishes no weights '{wanted}' of {name}; it has {', '.join(MODELS[name])}.{near}",
                f"Correct the name, or leave it out: torchvision:{name}.",
            )
        return f"{name}/{weights}"

    def short(self, address: str) -> str:
        return address.partition("/")[0]

    def cached_file(self, address: str) -> Path:
        import torch

        return Path(torch.hub.get_dir(), "checkpoints", _weights(address).url.rsplit("/", 1)[1])

    def needed_download(self, address: str) -> Download | None:
        if self.cached_file(address).exists():
            return None
        weights = _weights(address)
        megabytes = weights.meta["_file_size"] * 2**20 / 1e6  # torchvision counts in MiB
        return Download(f"torchvision:{address}", weights.url, megabytes)

    def fetch(self, address: str, say: Say | None) -> Path:
        """The hash in the file's name is checked."""
        import torch

        path, download = self.cached_file(address), self.needed_download(address)
        if download is None:
            return path
        if say is not None:
            say(f"downloading {download.url} ({download.megabytes:.0f} MB)")
        digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(download.url, str(path), digest[1] if digest else None, progress=False)
        except (OSError, HTTPException, RuntimeError) as error:
            reason = excerpt(str(getattr(error, "reason", error)), 160) or type(error).__name__
            raise CheckpointError(
                f"{download.source}: {download.url} could not be downloaded: {reason.rstrip('.')}.",
                f"Check the connection and try again, or put the file at {path}.",
            ) from error
        return path

    def tensors(self, address: str) -> dict[str, Tensor]:
        import torch
        import torchvision

        classes = len(_weights(address).meta["categories"])
        with torch.device("meta"):
            model = torchvision.models.get_model(self.short(address), weights=None, num_classes=classes)
        state: dict[str, Tensor] = model.state_dict()
        return state

    def normalisation(self, address: str) -> MeanStd:
        """By torchvision's own transforms."""
        transforms = _weights(address).transforms()
        return tuple(transforms.mean), tuple(transforms.std)


KIND = Torchvision()


def _weights(address: str) -> Any:
    """torchvision's own record of the weights; an older torchvision may not have all that are known here."""
    import torchvision  # takes about a second and 150 MB, which reading a file need not pay

    name, _, weights = address.partition("/")
    try:
        return torchvision.models.get_model_weights(name)[weights]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"torchvision:{address}: torchvision {torchvision.__version__} does not have these weights.",
            "Upgrade torchvision.",
        ) from error
