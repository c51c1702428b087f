"""What a whole pickled module tells of its layers beyond their tensors, and what of it would make another network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.architecture import Architecture, Convolution
from idsnn_cli.checkpoint.stand_ins import CLASS
from idsnn_cli.errors import FamilyError
from idsnn_cli.models.settings_told import other_activation
from idsnn_cli.text import excerpt

_ACTIVATIONS = "torch.nn.modules.activation."
_FUNCTIONS = ("torch.nn.functional.", "torch._C._nn.", "torch.functional.")
# Those of gates and behind the linear layer stand beside ReLU in networks that are read.
_READ = ("ReLU", "Sigmoid", "Softmax", "LogSoftmax")
_POOLS = tuple(f"torch.nn.modules.pooling.{kind}Pool2d" for kind in ("Avg", "Max", "LP", "FractionalMax"))
_IDENTITY = "torch.nn.modules.linear.Identity"
# Layers of others that compute what torch's own of the same tensors do.
_LIKE_TORCH = ("FrozenBatchNorm2d", "SyncBatchNorm", "SynchronizedBatchNorm2d")
_LIKE_TORCHS = ("torch.nn.", "spikingjelly.", "detectron2.layers.wrappers.")
# What networks here have.
_USUAL: dict[str, tuple[object, ...]] = {"eps": (1e-5,), "dilation": ((1, 1), (1,)), "padding_mode": ("zeros",)}
_FIX = "Give a network of ReLU and BatchNorm with eps=1e-5, and convolutions without dilation that pad with zeros."
_SAVE_POOL = "No network here has such a layer. If it is never called, save model.state_dict() and give that."
_SAVE = "If it computes what torch's own layer does, save model.state_dict() instead of the model, and give that."


def check_layers(
    others: Mapping[str, Any], names: Mapping[str, str], architecture: Architecture, where: str
) -> tuple[Architecture, bool]:
    """``architecture`` with the strides that the layers tell, and whether they tell any.

    ``others`` are the leaves of the file that are no tensors, of which only those of whole modules tell of layers;
    ``names`` leads from canonical names to keys. Raises :class:`FamilyError` where a layer of the network is of another
    kind than those here.
    """
    if not any(name.rpartition(".")[2] == CLASS for name in others):
        return architecture, False
    modules = {key.rpartition(".")[0] for key in names.values()}
    blocks = {module.rpartition(".")[0] for module in modules}
    for name, value in others.items():
        module, _, leaf = name.rpartition(".")
        if leaf == CLASS and str(value).startswith(_ACTIVATIONS) and _is_inside(module, blocks):
            kind = str(value).removeprefix(_ACTIVATIONS)
            if kind not in _READ:
                raise FamilyError(f"{where}: '{excerpt(module)}' is a {excerpt(kind)}, and not ReLU.", _FIX)
        elif leaf == CLASS and str(value).startswith(_FUNCTIONS) and _is_inside(module, blocks):
            if other_activation(str(value)):
                raise FamilyError(f"{where}: '{excerpt(module)}' is {excerpt(str(value))}, and not ReLU.", _FIX)
        elif leaf == CLASS and module in modules and not _is_like_torchs(str(value)):
            raise FamilyError(
                f"{where}: '{excerpt(module)}' is a {excerpt(str(value))}, which may compute something else.", _SAVE
            )
        elif leaf in _USUAL and module in modules and value not in _USUAL[leaf]:
            raise FamilyError(f"{where}: '{excerpt(module)}' has {leaf} {excerpt(str(value))}.", _FIX)
    _check_pools(others, names, architecture, where)
    return _strided(others, names, architecture, where)


def _is_like_torchs(kind: str) -> bool:
    """Whether a layer of the class ``kind`` computes what torch's own with these tensors does."""
    if kind.endswith(("ConvTranspose2d", "ConvTranspose1d")):
        return False
    return kind.startswith(_LIKE_TORCHS) or kind.rpartition(".")[2] in _LIKE_TORCH


def _check_pools(others: Mapping[str, Any], names: Mapping[str, str], architecture: Architecture, where: str) -> None:
    """Raise :class:`FamilyError` for pools where no network here has them, or none where each has."""
    traits = architecture.traits()
    if "stem" not in traits:
        return
    inside = {
        key.rpartition(".")[0].rpartition(".")[0]
        for name, key in names.items()
        if name.startswith("stages.") and ".conv" in name and ".shortcut." not in name
    }
    around = names[next(name for name in names if name.startswith("stem."))].rpartition(".")[0].rpartition(".")[0]
    for name, value in others.items():
        module, _, leaf = name.rpartition(".")
        kind = str(value)
        if leaf != CLASS or not (kind in _POOLS or kind == _IDENTITY):
            continue
        parent, _, own = module.rpartition(".")
        averaging = str(traits["shortcut"]).startswith("average") and parent not in inside
        if kind in _POOLS and any(f"{module}.".startswith(f"{block}.") for block in inside) and not averaging:
            raise FamilyError(f"{where}: '{excerpt(module)}' pools inside a block, and no block here does.", _SAVE_POOL)
        maxes = kind.endswith(".MaxPool2d")
        if parent == around and traits["stem"] == "3x3" and maxes:
            raise FamilyError(f"{where}: '{excerpt(module)}' pools behind a 3x3 stem, which none here has.", _SAVE_POOL)
        if parent == around and traits["stem"] != "3x3" and kind == _IDENTITY and own in ("maxpool", "pool", "pool1"):
            raise FamilyError(f"{where}: '{excerpt(module)}' pools nothing behind its large stem.", _SAVE_POOL)


def _strided(
    others: Mapping[str, Any], names: Mapping[str, str], architecture: Architecture, where: str
) -> tuple[Architecture, bool]:
    forms = [architecture]
    if architecture.traits().get("block") == "bottleneck":
        forms += [architecture.striding(stride, where) for stride in ("1x1", "3x3")]
    faults = [_fault(others, names, form) for form in forms]
    if all(faults):
        raise FamilyError(
            f"{where}: {faults[0]}.", "No network here has such layers. Give one that strides and pads as usual."
        )
    told = any(
        f"{names[f'{conv.name}.weight'].rpartition('.')[0]}.stride" in others for conv in _found(architecture, names)
    )
    return forms[faults.index(None)], told


def _found(architecture: Architecture, names: Mapping[str, str]) -> list[Convolution]:
    return [conv for conv in architecture.convolutions() if f"{conv.name}.weight" in names]


def _fault(others: Mapping[str, Any], names: Mapping[str, str], architecture: Architecture) -> str | None:
    """The first convolution that strides or pads otherwise than the description says, in words."""
    for conv in _found(architecture, names):
        module = names[f"{conv.name}.weight"].rpartition(".")[0]
        for leaf, wanted in (("stride", conv.stride), ("padding", conv.padding)):
            value = others.get(f"{module}.{leaf}")
            if leaf == "padding" and isinstance(value, str):
                same = conv.stride == 1 and 2 * conv.padding + 1 == conv.kernel
                value = (conv.padding,) if value == ("same" if same else "valid" if not conv.padding else "") else value
            if value is not None and set(value) != {wanted}:
                return f"'{excerpt(module)}' has {leaf} {excerpt(str(value))}, where a network here has {wanted}"
    return None


def _is_inside(module: str, blocks: set[str]) -> bool:
    """Whether ``module`` stands in one of the ``blocks``, at any depth but for the nameless one around them all."""
    parts = module.split(".")
    return ".".join(parts[:-1]) in blocks or any(".".join(parts[:end]) in blocks for end in range(1, len(parts)))
