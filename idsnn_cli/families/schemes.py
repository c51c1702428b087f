"""How each family of ResNet checkpoints names its tensors: every table, in the order in which they are tried."""

from __future__ import annotations

from idsnn_cli.families.other_tables import (
    DETECTRON2,
    EHANW,
    HUGGING_FACE_BODY,
    PYCLS,
    RELEASE_STUDENT,
    RESNETV2_BODY,
    TIMM_CLIP,
    WEIAICUNZAI,
    WIDE,
)
from idsnn_cli.families.scheme import CANONICAL, Scheme, Trait, rows, under
from idsnn_cli.families.torchvision_tables import (
    AVERAGED_FROM_THE_SECOND,
    CLIP,
    CLIP_TOWER,
    CONTAINED_LAYERS,
    DEEP_STEM,
    DOWNSAMPLE_01,
    DOWNSAMPLE_12,
    FC,
    KUANGLIU_SHORTCUTS,
    LEGACY_STEM,
    MMPRETRAIN_REST,
    MOCO_REST,
    NEURONS_OF_SPIKINGJELLY,
    NUMBERED_STEM,
    OWN_DECAYS,
    PLAIN_BODY,
    PLAIN_LAYERS,
    PLAIN_STEM,
    RS_STEM,
    TORCHVISION_BODY,
)

_CLIP_TRAITS = (Trait("stem_pool", "average"), Trait("bottleneck_stride", "average"))
_ATTENTION_POOLING = "ends in attention pooling instead of a mean and a linear layer"

# Where two tables explain a file equally well, the earlier one names it.
SCHEMES: tuple[Scheme, ...] = (
    Scheme("idsnn", "idsnn's canonical names", CANONICAL + OWN_DECAYS, spiking=True, neurons="asked"),
    Scheme("torchvision", "torchvision, timm v1, chenyaofo or SpikingJelly", TORCHVISION_BODY + FC),
    Scheme("timm", "timm, deep stem", DEEP_STEM + PLAIN_LAYERS + DOWNSAMPLE_01 + FC),
    Scheme("timm", "timm, averaged shortcuts", PLAIN_BODY + DOWNSAMPLE_12 + FC, projection="average"),
    Scheme(
        "timm",
        "timm, deep stem and averaged shortcuts",
        DEEP_STEM + PLAIN_LAYERS + DOWNSAMPLE_12 + FC,
        projection="average",
    ),
    Scheme(
        "timm",
        "timm's ResNet-RS",
        RS_STEM + PLAIN_LAYERS + DOWNSAMPLE_12 + FC,
        projection="average",
        traits=(Trait("stem_pool", "convolution"),),
    ),
    Scheme(
        "timm",
        "timm's legacy SENets, by Cadene",
        LEGACY_STEM + PLAIN_LAYERS + DOWNSAMPLE_01 + rows(("last_linear", "head")),
        traits=(
            Trait("stem_pool", "ceil"),
            Trait("attention_activated", True, "basic"),
            Trait("bottleneck_stride", "1x1", "dense"),
            Trait("bottleneck_stride", "3x3", "bottleneck"),
        ),
    ),
    Scheme("clip", "OpenAI's CLIP", CLIP, projection="average", traits=_CLIP_TRAITS, ending=_ATTENTION_POOLING),
    Scheme(
        "clip",
        "the image tower of OpenAI's CLIP",
        CLIP_TOWER,
        projection="average",
        traits=_CLIP_TRAITS,
        ending=_ATTENTION_POOLING,
    ),
    Scheme("timm", "timm's CLIP", TIMM_CLIP, projection="average", traits=_CLIP_TRAITS, ending=_ATTENTION_POOLING),
    Scheme("timm-resnetv2", "timm's resnetv2", rows(("stem.conv", "stem.conv")) + RESNETV2_BODY),
    Scheme(
        "timm-resnetv2",
        "timm's resnetv2, deep stem",
        rows(("stem.conv{i+1}", "stem.{i}.conv"), ("stem.norm{i+1}", "stem.{i}.norm")) + RESNETV2_BODY,
        # No key tells, but those of its networks that have a deep stem average.
        projection="average",
    ),
    Scheme("moco", "MoCo over torchvision", under("encoder_q.", TORCHVISION_BODY) + MOCO_REST),
    Scheme(
        "huggingface",
        "Hugging Face",
        under("resnet.", HUGGING_FACE_BODY) + rows(("classifier.1", "head")),
    ),
    Scheme("huggingface", "Hugging Face without its head", HUGGING_FACE_BODY),
    Scheme("pycls", "pycls", PYCLS),
    Scheme("detectron2", "detectron2", DETECTRON2),
    Scheme("mmpretrain", "mmpretrain", under("backbone.", TORCHVISION_BODY) + MMPRETRAIN_REST),
    Scheme(
        "mmpretrain",
        "mmpretrain, deep stem",
        under("backbone.", NUMBERED_STEM + PLAIN_LAYERS + DOWNSAMPLE_01) + MMPRETRAIN_REST,
    ),
    Scheme(
        "mmpretrain",
        "mmpretrain, deep stem and averaged shortcuts",
        under("backbone.", NUMBERED_STEM + PLAIN_LAYERS + AVERAGED_FROM_THE_SECOND) + MMPRETRAIN_REST,
        projection="average",
    ),
    Scheme("akamaster", "akamaster, or kuangliu's names without projections", PLAIN_BODY + rows(("linear", "head"))),
    Scheme("kuangliu", "kuangliu", PLAIN_BODY + KUANGLIU_SHORTCUTS + rows(("linear", "head"))),
    Scheme("weiaicunzai", "weiaicunzai", WEIAICUNZAI),
    Scheme("release-student", "the student of the IDSNN release", RELEASE_STUDENT, spiking=True, neurons="told"),
    Scheme("ehanw", "EhanW", EHANW),
    Scheme("wide", "wide residual networks (mdistiller, TRADES)", WIDE),
    Scheme(
        "spikingjelly",
        "SpikingJelly",
        TORCHVISION_BODY + NEURONS_OF_SPIKINGJELLY + FC,
        spiking=True,
        neurons="told",
    ),
    Scheme(
        "spikingjelly",
        "SpikingJelly, convolution and norm in containers",
        PLAIN_STEM + CONTAINED_LAYERS + NEURONS_OF_SPIKINGJELLY + FC,
        spiking=True,
        neurons="told",
    ),
)
