"""Rows of the families whose names are like nobody else's."""

from __future__ import annotations

from idsnn_cli.families.scheme import CONV, NORM, SHORTCUT_CONV, SHORTCUT_NORM, dropped, rows

RESNETV2_BODY = rows(
    ("stages.{s}.blocks.{b}.norm{i+1}", NORM),
    ("stages.{s}.blocks.{b}.conv{i+1}", CONV),
    ("stages.{s}.blocks.{b}.downsample.conv", SHORTCUT_CONV),
    ("norm", "final_norm"),
    ("head.fc", "head"),
)
HUGGING_FACE_BODY = rows(
    ("embedder.embedder.convolution", "stem.conv"),
    ("embedder.embedder.normalization", "stem.norm"),
    ("encoder.stages.{s}.layers.{b}.layer.{i}.convolution", CONV),
    ("encoder.stages.{s}.layers.{b}.layer.{i}.normalization", NORM),
    ("encoder.stages.{s}.layers.{b}.shortcut.convolution", SHORTCUT_CONV),
    ("encoder.stages.{s}.layers.{b}.shortcut.normalization", SHORTCUT_NORM),
)

PYCLS = rows(
    ("stem.conv", "stem.conv"),
    ("stem.bn", "stem.norm"),
    ("s{s+1}.b{b+1}.f.a", "stages.{s}.{b}.conv0"),
    ("s{s+1}.b{b+1}.f.a_bn", "stages.{s}.{b}.norm0"),
    ("s{s+1}.b{b+1}.f.b", "stages.{s}.{b}.conv1"),
    ("s{s+1}.b{b+1}.f.b_bn", "stages.{s}.{b}.norm1"),
    ("s{s+1}.b{b+1}.f.c", "stages.{s}.{b}.conv2"),
    ("s{s+1}.b{b+1}.f.c_bn", "stages.{s}.{b}.norm2"),
    ("s{s+1}.b{b+1}.proj", SHORTCUT_CONV),
    ("s{s+1}.b{b+1}.bn", SHORTCUT_NORM),
    ("head.fc", "head"),
)

DETECTRON2 = rows(
    ("stem.conv1", "stem.conv"),
    ("stem.conv1.norm", "stem.norm"),
    ("res{s+2}.{b}.conv{i+1}", CONV),
    ("res{s+2}.{b}.conv{i+1}.norm", NORM),
    ("res{s+2}.{b}.shortcut", SHORTCUT_CONV),
    ("res{s+2}.{b}.shortcut.norm", SHORTCUT_NORM),
    ("linear", "head"),
)

EHANW = rows(
    ("conv_1", "stem.conv"),
    ("bn_1", "stem.norm"),
    ("stage_{s+1}.{b}.conv_{i+1}", CONV),
    ("stage_{s+1}.{b}.bn_{i+1}", NORM),
    ("stage_{s+1}.{b}.downsample.0", SHORTCUT_CONV),
    ("stage_{s+1}.{b}.downsample.1", SHORTCUT_NORM),
    ("fc", "head"),
)

WEIAICUNZAI = rows(
    ("conv1.0", "stem.conv"),
    ("conv1.1", "stem.norm"),
    ("conv{s+2}_x.{b}.residual_function.0", "stages.{s}.{b}.conv0"),
    ("conv{s+2}_x.{b}.residual_function.1", "stages.{s}.{b}.norm0"),
    ("conv{s+2}_x.{b}.residual_function.3", "stages.{s}.{b}.conv1"),
    ("conv{s+2}_x.{b}.residual_function.4", "stages.{s}.{b}.norm1"),
    ("conv{s+2}_x.{b}.residual_function.6", "stages.{s}.{b}.conv2"),
    ("conv{s+2}_x.{b}.residual_function.7", "stages.{s}.{b}.norm2"),
    ("conv{s+2}_x.{b}.shortcut.0", SHORTCUT_CONV),
    ("conv{s+2}_x.{b}.shortcut.1", SHORTCUT_NORM),
    ("fc", "head"),
)

RELEASE_STUDENT = rows(
    ("conv1.0", "stem.conv"),
    ("conv1.1.bn", "stem.norm"),
    ("conv{s+2}_x.{b}.residual_function.0", "stages.{s}.{b}.conv0"),
    ("conv{s+2}_x.{b}.residual_function.1.bn", "stages.{s}.{b}.norm0"),
    ("conv{s+2}_x.{b}.residual_function.3", "stages.{s}.{b}.conv1"),
    ("conv{s+2}_x.{b}.residual_function.4.bn", "stages.{s}.{b}.norm1"),
    ("conv{s+2}_x.{b}.shortcut.0", SHORTCUT_CONV),
    ("conv{s+2}_x.{b}.shortcut.1.bn", SHORTCUT_NORM),
    ("fc", "head"),
)

# Wide residual networks, pre-activation: mdistiller and everyone who took xternalz's code.
WIDE = (
    *rows(
        ("conv1", "stem.conv"),
        ("block{s+1}.layer.{b}.bn{i+1}", NORM),
        ("block{s+1}.layer.{b}.conv{i+1}", CONV),
        ("block{s+1}.layer.{b}.convShortcut", SHORTCUT_CONV),
        ("bn1", "final_norm"),
        ("fc", "head"),
    ),
    *dropped("a second first stage, which the WideResNet of TRADES builds and never calls", "sub_block1.{*}"),
)

# timm's CLIP ResNets.
TIMM_CLIP = (
    *rows(
        ("stem.conv{i+1}.conv", "stem.{i}.conv"),
        ("stem.conv{i+1}.bn", "stem.{i}.norm"),
        ("stages.{s}.{b}.conv1_1x1.conv", "stages.{s}.{b}.conv0"),
        ("stages.{s}.{b}.conv1_1x1.bn", "stages.{s}.{b}.norm0"),
        ("stages.{s}.{b}.conv2_kxk.conv", "stages.{s}.{b}.conv1"),
        ("stages.{s}.{b}.conv2_kxk.bn", "stages.{s}.{b}.norm1"),
        ("stages.{s}.{b}.conv3_1x1.conv", "stages.{s}.{b}.conv2"),
        ("stages.{s}.{b}.conv3_1x1.bn", "stages.{s}.{b}.norm2"),
        ("stages.{s}.{b}.shortcut.conv.conv", SHORTCUT_CONV),
        ("stages.{s}.{b}.shortcut.conv.bn", SHORTCUT_NORM),
        ("head.fc", "head"),
    ),
    *dropped(
        "CLIP's attention pooling, which takes the place of a mean and a linear layer",
        "head.pos_embed",
        *(f"head.{part}.{{*}}" for part in ("q", "k", "v", "proj")),
    ),
)
