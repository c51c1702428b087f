"""Where a network comes from, as a person writes it: a file's path, or weights that torchvision publishes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from idsnn_cli.errors import UsageError, did_you_mean

SCHEME = "torchvision:"
# Each ResNet's published weights; the last is torchvision's own default.
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
}


@dataclass(frozen=True, slots=True)
class Published:
    """Weights by torchvision's names for the network and for them; ``str`` gives ``torchvision:NAME/WEIGHTS``."""

    name: str
    weights: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}/{self.weights}"


Source = Path | Published


def parse_source(text: str) -> Source:
    """``torchvision:NAME`` or ``torchvision:NAME/WEIGHTS`` (in any case) as what is published, all else as a path.

    Without WEIGHTS it is torchvision's default. Raises :class:`UsageError` with the nearest name for one that is not
    known; nothing is downloaded or imported for that.
    """
    if not text.startswith(SCHEME):
        return Path(text)
    given, slash, wanted = text.removeprefix(SCHEME).partition("/")
    name = given.lower()
    if name not in MODELS:
        raise UsageError(
            f"torchvision publishes no ResNet '{given}'; it has {', '.join(MODELS)}.{did_you_mean(name, MODELS)}",
            "Correct the name.",
        )
    weights = wanted.upper() if slash else MODELS[name][-1]
    if weights not in MODELS[name]:
        near = did_you_mean(weights, MODELS[name])
        raise UsageError(
            f"torchvision publishes no weights '{wanted}' of {name}; it has {', '.join(MODELS[name])}.{near}",
            f"Correct the name, or leave it out: {SCHEME}{name}.",
        )
    return Published(name, weights)


def as_source(given: str | Source) -> Source:
    """A path or published weights as they are, text as :func:`parse_source` reads it."""
    return parse_source(given) if isinstance(given, str) else given
