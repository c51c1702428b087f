"""How each family of ResNet checkpoints names its tensors, as data.

A row pairs the name of a module in the file with its canonical name. Placeholders are ``{s}`` stage, ``{b}`` block
and ``{i}`` convolution, counted from 0; ``{s+1}`` is the same number counted from 1, on either side. A canonical name
of None drops on purpose whatever the pattern covers, with the reason beside it; ``{*}`` is the rest of a name.
"""

from __future__ import annotations

from dataclasses import dataclass

from idsnn_cli.architecture import ForeignShortcut, Shortcut


@dataclass(frozen=True, slots=True)
class Row:
    """One module of a scheme: its name in the file, and the canonical one or None with the reason."""

    source: str
    canonical: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The table of one family.

    ``spiking`` says that networks with neurons use the same names, ``projection`` what a shortcut with weights is.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    spiking: bool = False
    projection: Shortcut | ForeignShortcut = "projection"


def _rows(*pairs: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(source, canonical) for source, canonical in pairs)


def _under(prefix: str, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(Row(prefix + row.source, row.canonical, row.reason) for row in rows)


_CONV, _NORM = "stages.{s}.{b}.conv{i}", "stages.{s}.{b}.norm{i}"
_SHORTCUT_CONV, _SHORTCUT_NORM = "stages.{s}.{b}.shortcut.conv", "stages.{s}.{b}.shortcut.norm"

_REDUCE, _EXPAND = "stages.{s}.{b}.attention.reduce", "stages.{s}.{b}.attention.expand"
_MIX = "stages.{s}.{b}.attention.mix"

_CANONICAL = _rows(
    ("input", "input"),
    ("stem.conv", "stem.conv"),
    ("stem.norm", "stem.norm"),
    ("stem.{i}.conv", "stem.{i}.conv"),
    ("stem.{i}.norm", "stem.{i}.norm"),
    (_CONV, _CONV),
    (_NORM, _NORM),
    (_REDUCE, _REDUCE),
    (_EXPAND, _EXPAND),
    (_MIX, _MIX),
    (_SHORTCUT_CONV, _SHORTCUT_CONV),
    (_SHORTCUT_NORM, _SHORTCUT_NORM),
    ("final_norm", "final_norm"),
    ("head", "head"),
)

_PLAIN_STEM = _rows(("conv1", "stem.conv"), ("bn1", "stem.norm"))
_PLAIN_LAYERS = _rows(
    ("layer{s+1}.{b}.conv{i+1}", _CONV),
    ("layer{s+1}.{b}.bn{i+1}", _NORM),
    ("layer{s+1}.{b}.se.fc1", _REDUCE),
    ("layer{s+1}.{b}.se.fc2", _EXPAND),
    ("layer{s+1}.{b}.se.conv", _MIX),
)
_PLAIN_BODY = _PLAIN_STEM + _PLAIN_LAYERS
_DOWNSAMPLE_01 = _rows(
    ("layer{s+1}.{b}.downsample.0", _SHORTCUT_CONV),
    ("layer{s+1}.{b}.downsample.1", _SHORTCUT_NORM),
)
_TORCHVISION_BODY = _PLAIN_BODY + _DOWNSAMPLE_01

# timm's d, s and t networks.
_DEEP_STEM = _rows(
    ("conv1.0", "stem.0.conv"),
    ("conv1.1", "stem.0.norm"),
    ("conv1.3", "stem.1.conv"),
    ("conv1.4", "stem.1.norm"),
    ("conv1.6", "stem.2.conv"),
    ("bn1", "stem.2.norm"),
)
# The average stands at 0, in stages that do not stride too.
_DOWNSAMPLE_12 = _rows(
    ("layer{s+1}.{b}.downsample.1", _SHORTCUT_CONV),
    ("layer{s+1}.{b}.downsample.2", _SHORTCUT_NORM),
)
# mmpretrain's, which has no average in the first stage, for that does not stride.
_AVERAGED_FROM_THE_SECOND = _rows(
    ("layer1.{b}.downsample.0", "stages.0.{b}.shortcut.conv"),
    ("layer1.{b}.downsample.1", "stages.0.{b}.shortcut.norm"),
    ("layer{s+2}.{b}.downsample.1", "stages.{s+1}.{b}.shortcut.conv"),
    ("layer{s+2}.{b}.downsample.2", "stages.{s+1}.{b}.shortcut.norm"),
)
_NUMBERED_STEM = _rows(("stem.{i}.conv", "stem.{i}.conv"), ("stem.{i}.bn", "stem.{i}.norm"))
_RESNETV2_BODY = _rows(
    ("stages.{s}.blocks.{b}.norm{i+1}", _NORM),
    ("stages.{s}.blocks.{b}.conv{i+1}", _CONV),
    ("stages.{s}.blocks.{b}.downsample.conv", _SHORTCUT_CONV),
    ("norm", "final_norm"),
    ("head.fc", "head"),
)
_FC = _rows(("fc", "head"))

_HUGGING_FACE_BODY = _rows(
    ("embedder.embedder.convolution", "stem.conv"),
    ("embedder.embedder.normalization", "stem.norm"),
    ("encoder.stages.{s}.layers.{b}.layer.{i}.convolution", _CONV),
    ("encoder.stages.{s}.layers.{b}.layer.{i}.normalization", _NORM),
    ("encoder.stages.{s}.layers.{b}.shortcut.convolution", _SHORTCUT_CONV),
    ("encoder.stages.{s}.layers.{b}.shortcut.normalization", _SHORTCUT_NORM),
)

_PYCLS = _rows(
    ("stem.conv", "stem.conv"),
    ("stem.bn", "stem.norm"),
    ("s{s+1}.b{b+1}.f.a", "stages.{s}.{b}.conv0"),
    ("s{s+1}.b{b+1}.f.a_bn", "stages.{s}.{b}.norm0"),
    ("s{s+1}.b{b+1}.f.b", "stages.{s}.{b}.conv1"),
    ("s{s+1}.b{b+1}.f.b_bn", "stages.{s}.{b}.norm1"),
    ("s{s+1}.b{b+1}.f.c", "stages.{s}.{b}.conv2"),
    ("s{s+1}.b{b+1}.f.c_bn", "stages.{s}.{b}.norm2"),
    ("s{s+1}.b{b+1}.proj", _SHORTCUT_CONV),
    ("s{s+1}.b{b+1}.bn", _SHORTCUT_NORM),
    ("head.fc", "head"),
)

_DETECTRON2 = _rows(
    ("stem.conv1", "stem.conv"),
    ("stem.conv1.norm", "stem.norm"),
    ("res{s+2}.{b}.conv{i+1}", _CONV),
    ("res{s+2}.{b}.conv{i+1}.norm", _NORM),
    ("res{s+2}.{b}.shortcut", _SHORTCUT_CONV),
    ("res{s+2}.{b}.shortcut.norm", _SHORTCUT_NORM),
    ("linear", "head"),
)

_EHANW = _rows(
    ("conv_1", "stem.conv"),
    ("bn_1", "stem.norm"),
    ("stage_{s+1}.{b}.conv_{i+1}", _CONV),
    ("stage_{s+1}.{b}.bn_{i+1}", _NORM),
    ("stage_{s+1}.{b}.downsample.0", _SHORTCUT_CONV),
    ("stage_{s+1}.{b}.downsample.1", _SHORTCUT_NORM),
    ("fc", "head"),
)

_KUANGLIU_SHORTCUTS = _rows(
    ("layer{s+1}.{b}.shortcut.0", _SHORTCUT_CONV),
    ("layer{s+1}.{b}.shortcut.1", _SHORTCUT_NORM),
)

_WEIAICUNZAI = _rows(
    ("conv1.0", "stem.conv"),
    ("conv1.1", "stem.norm"),
    ("conv{s+2}_x.{b}.residual_function.0", "stages.{s}.{b}.conv0"),
    ("conv{s+2}_x.{b}.residual_function.1", "stages.{s}.{b}.norm0"),
    ("conv{s+2}_x.{b}.residual_function.3", "stages.{s}.{b}.conv1"),
    ("conv{s+2}_x.{b}.residual_function.4", "stages.{s}.{b}.norm1"),
    ("conv{s+2}_x.{b}.residual_function.6", "stages.{s}.{b}.conv2"),
    ("conv{s+2}_x.{b}.residual_function.7", "stages.{s}.{b}.norm2"),
    ("conv{s+2}_x.{b}.shortcut.0", _SHORTCUT_CONV),
    ("conv{s+2}_x.{b}.shortcut.1", _SHORTCUT_NORM),
    ("fc", "head"),
)

_RELEASE_STUDENT = _rows(
    ("conv1.0", "stem.conv"),
    ("conv1.1.bn", "stem.norm"),
    ("conv{s+2}_x.{b}.residual_function.0", "stages.{s}.{b}.conv0"),
    ("conv{s+2}_x.{b}.residual_function.1.bn", "stages.{s}.{b}.norm0"),
    ("conv{s+2}_x.{b}.residual_function.3", "stages.{s}.{b}.conv1"),
    ("conv{s+2}_x.{b}.residual_function.4.bn", "stages.{s}.{b}.norm1"),
    ("conv{s+2}_x.{b}.shortcut.0", _SHORTCUT_CONV),
    ("conv{s+2}_x.{b}.shortcut.1.bn", _SHORTCUT_NORM),
    ("fc", "head"),
)

_MOCO_REST = (
    Row("encoder_q.fc.{*}", None, "MoCo's projection for its contrastive loss, not a classifier"),
    Row("encoder_k.{*}", None, "MoCo's key encoder, a moving average of the query encoder"),
    Row("queue", None, "MoCo's queue of keys"),
    Row("queue_ptr", None, "MoCo's queue of keys"),
)

_MMPRETRAIN_REST = (
    Row("head.fc", "head"),
    Row("data_preprocessor.{*}", None, "mmpretrain's own input normalisation"),
)

# Where two tables explain a file equally well, the earlier one names it.
SCHEMES: tuple[Scheme, ...] = (
    Scheme("idsnn", "idsnn's canonical names", _CANONICAL, spiking=True),
    Scheme("torchvision", "torchvision, timm v1, chenyaofo or SpikingJelly", _TORCHVISION_BODY + _rows(("fc", "head"))),
    Scheme("timm", "timm, deep stem", _DEEP_STEM + _PLAIN_LAYERS + _DOWNSAMPLE_01 + _FC),
    Scheme("timm", "timm, averaged shortcuts", _PLAIN_BODY + _DOWNSAMPLE_12 + _FC, projection="average"),
    Scheme(
        "timm",
        "timm, deep stem and averaged shortcuts",
        _DEEP_STEM + _PLAIN_LAYERS + _DOWNSAMPLE_12 + _FC,
        projection="average",
    ),
    Scheme("timm-resnetv2", "timm's resnetv2", _rows(("stem.conv", "stem.conv")) + _RESNETV2_BODY),
    Scheme(
        "timm-resnetv2",
        "timm's resnetv2, deep stem",
        _rows(("stem.conv{i+1}", "stem.{i}.conv"), ("stem.norm{i+1}", "stem.{i}.norm")) + _RESNETV2_BODY,
        # No key tells, but those of its networks that have a deep stem average.
        projection="average",
    ),
    Scheme("moco", "MoCo over torchvision", _under("encoder_q.", _TORCHVISION_BODY) + _MOCO_REST),
    Scheme(
        "huggingface",
        "Hugging Face",
        _under("resnet.", _HUGGING_FACE_BODY) + _rows(("classifier.1", "head")),
    ),
    Scheme("huggingface", "Hugging Face without its head", _HUGGING_FACE_BODY),
    Scheme("pycls", "pycls", _PYCLS),
    Scheme("detectron2", "detectron2", _DETECTRON2),
    Scheme("mmpretrain", "mmpretrain", _under("backbone.", _TORCHVISION_BODY) + _MMPRETRAIN_REST),
    Scheme(
        "mmpretrain",
        "mmpretrain, deep stem",
        _under("backbone.", _NUMBERED_STEM + _PLAIN_LAYERS + _DOWNSAMPLE_01) + _MMPRETRAIN_REST,
    ),
    Scheme(
        "mmpretrain",
        "mmpretrain, deep stem and averaged shortcuts",
        _under("backbone.", _NUMBERED_STEM + _PLAIN_LAYERS + _AVERAGED_FROM_THE_SECOND) + _MMPRETRAIN_REST,
        projection="average",
    ),
    Scheme("akamaster", "akamaster, or kuangliu's names without projections", _PLAIN_BODY + _rows(("linear", "head"))),
    Scheme("kuangliu", "kuangliu", _PLAIN_BODY + _KUANGLIU_SHORTCUTS + _rows(("linear", "head"))),
    Scheme("weiaicunzai", "weiaicunzai", _WEIAICUNZAI),
    Scheme("release-student", "the student of the IDSNN release", _RELEASE_STUDENT, spiking=True),
    Scheme("ehanw", "EhanW", _EHANW),
)

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
    (r"^block\d+\.layer\.\d+\.", "pre-activation blocks (wide residual network)", True),
    (r"(^|\.)attnpool\.", "attention pooling (CLIP)", False),
    (r"\.se\.conv\.", "efficient channel attention (ECA)", False),
    (r"\.(se|se_module|se_layer|attention)\.|^layer\d+\.\d+\.fc[12]\.", "squeeze-and-excitation", False),
    (r"^conv1\.[1-9]\.|^(backbone\.)?stem\.\d+\.|^conv[23]\.weight$|^bn[23]\.", "a deep stem", False),
    (r"\.(downsample|shortcut)\.2\.", "average-pooled shortcuts", False),
    (r"\.(weight_g|weight_v)$|\.parametrizations\.", "weight normalisation", False),
    (r"(^|\.)(conv\w*|convolution|proj|[abc]|downsample\.0|shortcut(\.0)?)\.bias$", "convolutions with a bias", False),
)
