"""Rows of the families that name their stages ``layer1`` to ``layer4``, as torchvision does."""

from __future__ import annotations

from idsnn_cli.families.scheme import (
    CONV,
    EXPAND,
    MIX,
    NORM,
    REDUCE,
    SHORTCUT_CONV,
    SHORTCUT_NORM,
    Row,
    dropped,
    rows,
    under,
)

PLAIN_STEM = rows(("conv1", "stem.conv"), ("bn1", "stem.norm"))
PLAIN_LAYERS = rows(
    ("layer{s+1}.{b}.conv{i+1}", CONV),
    ("layer{s+1}.{b}.bn{i+1}", NORM),
    ("layer{s+1}.{b}.se.fc1", REDUCE),
    ("layer{s+1}.{b}.se.fc2", EXPAND),
    ("layer{s+1}.{b}.se.conv", MIX),
    ("layer{s+1}.{b}.se.fc.0", REDUCE),
    ("layer{s+1}.{b}.se.fc.2", EXPAND),
    ("layer{s+1}.{b}.fc1", REDUCE),
    ("layer{s+1}.{b}.fc2", EXPAND),
    ("layer{s+1}.{b}.se_module.fc1", REDUCE),
    ("layer{s+1}.{b}.se_module.fc2", EXPAND),
    ("layer{s+1}.{b}.se_layer.conv1.conv", REDUCE),
    ("layer{s+1}.{b}.se_layer.conv2.conv", EXPAND),
)
PLAIN_BODY = PLAIN_STEM + PLAIN_LAYERS
DOWNSAMPLE_01 = rows(
    ("layer{s+1}.{b}.downsample.0", SHORTCUT_CONV),
    ("layer{s+1}.{b}.downsample.1", SHORTCUT_NORM),
)
TORCHVISION_BODY = PLAIN_BODY + DOWNSAMPLE_01

# timm's d, s and t networks.
DEEP_STEM = rows(
    ("conv1.0", "stem.0.conv"),
    ("conv1.1", "stem.0.norm"),
    ("conv1.3", "stem.1.conv"),
    ("conv1.4", "stem.1.norm"),
    ("conv1.6", "stem.2.conv"),
    ("bn1", "stem.2.norm"),
)
# The average stands at 0, in stages that do not stride too.
DOWNSAMPLE_12 = rows(
    ("layer{s+1}.{b}.downsample.1", SHORTCUT_CONV),
    ("layer{s+1}.{b}.downsample.2", SHORTCUT_NORM),
)
# mmpretrain's, which has no average in the first stage, for that does not stride.
AVERAGED_FROM_THE_SECOND = rows(
    ("layer1.{b}.downsample.0", "stages.0.{b}.shortcut.conv"),
    ("layer1.{b}.downsample.1", "stages.0.{b}.shortcut.norm"),
    ("layer{s+2}.{b}.downsample.1", "stages.{s+1}.{b}.shortcut.conv"),
    ("layer{s+2}.{b}.downsample.2", "stages.{s+1}.{b}.shortcut.norm"),
)
NUMBERED_STEM = rows(("stem.{i}.conv", "stem.{i}.conv"), ("stem.{i}.bn", "stem.{i}.norm"))
KUANGLIU_SHORTCUTS = rows(
    ("layer{s+1}.{b}.shortcut.0", SHORTCUT_CONV),
    ("layer{s+1}.{b}.shortcut.1", SHORTCUT_NORM),
)

FC = rows(("fc", "head"))

MOCO_REST = (
    Row("encoder_q.fc.{*}", None, "MoCo's projection for its contrastive loss, not a classifier"),
    Row("encoder_k.{*}", None, "MoCo's key encoder, a moving average of the query encoder"),
    Row("queue", None, "MoCo's queue of keys"),
    Row("queue_ptr", None, "MoCo's queue of keys"),
)

MMPRETRAIN_REST = (
    Row("head.fc", "head"),
    Row("data_preprocessor.{*}", None, "mmpretrain's own input normalisation"),
)


# ResNet-RS, whose stem has a strided convolution instead of the max-pool.
RS_STEM = DEEP_STEM + rows(("maxpool.0", "stem.3.conv"), ("maxpool.1", "stem.3.norm"))
# Cadene's SENets.
LEGACY_STEM = rows(("layer0.conv1", "stem.conv"), ("layer0.bn1", "stem.norm"))

# OpenAI's: the average stands at -1.
CLIP_TOWER = (
    *rows(("conv{i+1}", "stem.{i}.conv"), ("bn{i+1}", "stem.{i}.norm")),
    *PLAIN_LAYERS,
    *DOWNSAMPLE_01,
    *dropped("CLIP's attention pooling, which takes the place of a mean and a linear layer", "attnpool.{*}"),
)
CLIP = (
    *under("visual.", CLIP_TOWER),
    *dropped(
        "CLIP's text tower",
        "transformer.{*}",
        "token_embedding.{*}",
        "positional_embedding",
        "ln_final.{*}",
        "text_projection",
    ),
    *dropped("a constant of CLIP's", "logit_scale", "input_resolution", "context_length", "vocab_size"),
)

# SpikingJelly's neurons with a learned time constant (PLIF) have one parameter each: decay = 1 - sigmoid(w).
LEARNT_DECAY = "the learnt decay of a layer of neurons, which a student with learn_decay: layer takes"
NEURONS_OF_SPIKINGJELLY = dropped(
    LEARNT_DECAY,
    "sn{i+1}.w",
    "layer{s+1}.{b}.sn{i+1}.w",
    "layer{s+1}.{b}.downsample.{i}.w",
    "layer{s+1}.{b}.downsample_sn.w",
)
# Ours, without the metadata that tell of them.
OWN_DECAYS = dropped(
    LEARNT_DECAY,
    "stem.act.decay_logit",
    "stages.{s}.{b}.act{i}.decay_logit",
    "stages.{s}.{b}.shortcut_act.decay_logit",
    "final_act.decay_logit",
)
# Those of "spike-element-wise" networks: convolution and norm in one container.
CONTAINED_LAYERS = rows(
    ("layer{s+1}.{b}.conv{i+1}.0", CONV),
    ("layer{s+1}.{b}.conv{i+1}.1", NORM),
    ("layer{s+1}.{b}.downsample.0.0", SHORTCUT_CONV),
    ("layer{s+1}.{b}.downsample.0.1", SHORTCUT_NORM),
)
