"""What a whole pickled module tells of its layers beyond their tensors, and what of it would make another network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from idsnn_cli.checkpoint.stand_ins import CLASS
from idsnn_cli.errors import FamilyError
from idsnn_cli.text import excerpt

_ACTIVATIONS = "torch.nn.modules.activation."
# Those of gates and behind the linear layer stand beside ReLU in networks that are read.
_READ = ("ReLU", "Sigmoid", "Softmax", "LogSoftmax")
# What networks here have.
_USUAL: dict[str, tuple[object, ...]] = {"eps": (1e-5,), "dilation": ((1, 1), (1,)), "padding_mode": ("zeros",)}
_FIX = "Give a network of ReLU and BatchNorm with eps=1e-5, and convolutions without dilation that pad with zeros."


def check_layers(others: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    """Raise :class:`FamilyError` where a layer of the network that is read from ``keys`` is of another kind.

    ``others`` are the leaves of the file that are no tensors; only those of whole modules tell of layers.
    """
    if not any(name.rpartition(".")[2] == CLASS for name in others):
        return
    modules = {key.rpartition(".")[0] for key in keys}
    blocks = {module.rpartition(".")[0] for module in modules}
    for name, value in others.items():
        module, _, leaf = name.rpartition(".")
        if leaf == CLASS and str(value).startswith(_ACTIVATIONS) and _is_inside(module, blocks):
            kind = str(value).removeprefix(_ACTIVATIONS)
            if kind not in _READ:
                raise FamilyError(f"{where}: '{excerpt(module)}' is a {excerpt(kind)}, and not ReLU.", _FIX)
        elif leaf in _USUAL and module in modules and value not in _USUAL[leaf]:
            raise FamilyError(f"{where}: '{excerpt(module)}' has {leaf} {excerpt(str(value))}.", _FIX)


def _is_inside(module: str, blocks: set[str]) -> bool:
    """Whether ``module`` stands in one of the ``blocks``, at any depth but for the nameless one around them all."""
    parts = module.split(".")
    return ".".join(parts[:-1]) in blocks or any(".".join(parts[:end]) in blocks for end in range(1, len(parts)))
