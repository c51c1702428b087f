"""Which file of a repository is its network, where none is named."""

from __future__ import annotations

from collections.abc import Sequence

from idsnn_cli.errors import HubError
from idsnn_cli.hub.names import ENDINGS, HubName
from idsnn_cli.text import excerpt

SAFE = ".safetensors"
INDEX = ".index.json"
# What libraries call the network's file, the safe form first; of several files the index stands for them.
USUAL = "model.safetensors"
_USUAL = (USUAL, "model.safetensors.index.json")
_USUAL_UNSAFE = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What trainers leave beside it, which is no network.
_NO_NETWORK = ("training_args.bin", "optimizer", "scheduler", "scaler", "rng_state", "random_states")
_SHOWN = 8


def choose(name: HubName, files: Sequence[str]) -> str:
    """The network's file among ``files``: ``model.safetensors``, else the only ``.safetensors``, else
    ``pytorch_model.bin``, else the only one of another kind that is read. What lies in folders counts where there is
    none at the top. Raises :class:`HubError` where there is none, or several, which it lists.
    """
    at_top = [file for file in files if "/" not in file]
    for usual, endings in ((_USUAL, (SAFE,)), (_USUAL_UNSAFE, ENDINGS)):
        for file in usual:
            if file in files:
                return file
        for place in (at_top, files):
            found = [file for file in place if file.endswith(endings) and not _is_beside(file)]
            if len(found) == 1:
                return found[0]
            if found:
                raise HubError(
                    f"{name} holds {len(found)} checkpoints: {_listed([name.of(file) for file in sorted(found)])}",
                    f"Name one of them, as in {name.of(sorted(found)[0])}.",
                )
    held = f"it holds {_listed(sorted(files))}" if files else "it is empty"
    raise HubError(f"{name} holds no checkpoint that is read here: {held}", f"Read are {', '.join(ENDINGS)}.")


def _is_beside(file: str) -> bool:
    return file.rpartition("/")[2].startswith(_NO_NETWORK)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(excerpt(each, 120) for each in names[:_SHOWN]) + more
