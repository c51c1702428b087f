"""What stands around a network's own names, and signs of networks that are known but cannot be described."""

from __future__ import annotations

# Dictionaries that training scripts put around a state dict; where a file holds several, the earlier one is taken.
WRAPPERS: tuple[str, ...] = (
    "state_dict_ema",
    "model_ema",
    "ema_state",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "params",
    "teacher",
)

# Those of them that hold averaged weights (EMA).
AVERAGED: frozenset[str] = frozenset(("state_dict_ema", "model_ema", "ema_state"))

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
