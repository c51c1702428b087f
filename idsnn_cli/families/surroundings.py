"""What stands around a network's own names, and signs of networks that are known but cannot be described."""

from __future__ import annotations

from collections.abc import Iterable

# Dictionaries that training scripts put around a state dict; where a file holds several, the earlier one is taken.
WRAPPERS: tuple[str, ...] = (
    "state_dict_ema",
    "model_ema",
    "ema_state",
    "ema_state_dict",
    "ema_model",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "params",
    "teacher",
)

# Those of them that hold averaged weights (EMA).
AVERAGED: frozenset[str] = frozenset(WRAPPERS[:6])

# Modules around the network.
PREFIXES: tuple[str, ...] = (
    "module",
    "model",
    "net",
    "network",
    "backbone",
    "bottom_up",
    "encoder_q",
    "encoder",
    "visual",
    "resnet",
)

# Prefixes of networks that others of the same file are trained with: taken where there is none but them.
SECOND: frozenset[str] = frozenset(
    ("teacher", "encoder_k", "momentum_encoder", "target_encoder", "target", "key_encoder")
)

_DEEPEST, _STRANGEST = 8, 3  # prefixes around a network, and those that nobody knows
_FEWEST = 30  # tensors under a prefix that nobody knows; the smallest ResNet has more, and few blocks alone do

# Parts of a name that torch.compile, FSDP, DeepSpeed and checkpointing put anywhere.
TRANSPARENT: frozenset[str] = frozenset(
    ("_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module")
)

# Last parts of names that some tool left behind in every module.
DROPPED_LEAVES: dict[str, str] = {
    "total_ops": "a counter that the thop profiler left behind",
    "total_params": "a counter that the thop profiler left behind",
}

# First parts of names beside the network.
BESIDE: dict[str, str] = {
    "optimizer": "state of the optimiser",
    "optimizer_state": "state of the optimiser",
    "optimizer_state_dict": "state of the optimiser",
    "optimizer_states": "state of the optimiser",
    "scheduler": "state of the schedule",
    "lr_scheduler": "state of the schedule",
    "lr_schedulers": "state of the schedule",
    "scaler": "state of the loss scaler",
    "amp": "state of the loss scaler",
    "n_averaged": "counter of a weight average",
}

# Traits of ResNets that are known but that no description can hold yet: a pattern of keys, the words for it, and
# whether it says so alone or only beside the blocks of a ResNet.
TRAITS: tuple[tuple[str, str, bool], ...] = (
    (r"^layer0\.(conv|bn)[23]\.", "the stem and bottlenecks of SENet-154", False),
    (r"(^|\.)attnpool\.", "attention pooling (CLIP)", False),
    (r"\.se\.conv\.", "efficient channel attention (ECA)", False),
    (r"\.(se|se_module|se_layer|attention)\.|^layer\d+\.\d+\.fc[12]\.", "squeeze-and-excitation", False),
    (r"^conv1\.[1-9]\.|^(backbone\.)?stem\.\d+\.|^conv[23]\.weight$|^bn[23]\.", "a deep stem", False),
    (r"(^|\.)amplitude\d*\.weight$", "learnt spike amplitudes, which a checkpoint's metadata must tell of", False),
    (r"\.(downsample|shortcut)\.2\.", "average-pooled shortcuts", False),
    (r"\.(weight_g|weight_v)$|\.parametrizations\.", "weight normalisation", False),
    (r"(^|\.)(conv\w*|convolution|proj|[abc]|downsample\.0|shortcut(\.0)?)\.bias$", "convolutions with a bias", False),
)


def without_transparent(key: str) -> str:
    """``key`` without the parts that wrappers of modules put anywhere."""
    if not any(part in key for part in TRANSPARENT):
        return key
    return ".".join(part for part in key.split(".") if part not in TRANSPARENT)


def roots(keys: Iterable[str]) -> dict[str, list[str]]:
    """Every sub-tree that wrappers and prefixes lead to: what stands before it -> its keys without that.

    The whole file is the sub-tree of the empty root. Shallower ones come first. A first part that nobody knows counts
    as a prefix too where enough tensors stand under it.
    """
    names = tuple(dict.fromkeys((*WRAPPERS, *PREFIXES)))
    found: dict[str, list[str]] = {"": list(keys)}
    pending = [("", 0)]
    for root, depth in pending:
        if depth == _DEEPEST:
            continue
        inside: dict[str, list[str]] = {}
        for key in found[root]:
            first, dot, rest = key.partition(".")
            if dot and first:
                inside.setdefault(first, []).append(rest)
        strange = (
            [first for first, rests in inside.items() if first not in names and len(rests) >= _FEWEST]
            if depth < _STRANGEST
            else []
        )
        for name in (*names, *strange):
            if name in inside:
                found[f"{root}{name}."] = inside[name]
                pending.append((f"{root}{name}.", depth + 1))
    return found


def is_known(root: str) -> bool:
    """Whether a root is of wrappers and prefixes that are known."""
    return all(part in WRAPPERS or part in PREFIXES for part in root.split(".")[:-1])


def preference(root: str) -> tuple[int, bool]:
    """Which of several networks in a file is taken: the lowest."""
    parts = root.split(".")
    wrapper = next((WRAPPERS.index(part) for part in parts if part in WRAPPERS), -1)
    return wrapper, any(part in SECOND for part in parts)


def is_averaged(root: str) -> bool:
    """Whether what stands under a root is an average of weights (EMA), by the names of the wrappers in it."""
    return any(part in AVERAGED for part in root.split("."))
