"""``timm:NAME``: timm's own list says where weights are and how images are normalised; a stand-in has the files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_stand_in import StandIn
from invoking import invoke

from idsnn_cli import load
from idsnn_cli.checkpoint import load_state
from idsnn_cli.errors import IdsnnError, UsageError
from idsnn_cli.models.identify import identify_tensors
from idsnn_cli.sources.kinds.timm import FAMILIES, configuration
from idsnn_cli.sources.names import Published, parse_source

timm = pytest.importorskip("timm", reason="timm is a test extra")
Capture = pytest.CaptureFixture[str]


def weights(name: str) -> tuple[Any, bytes]:
    """timm's network with random weights, and its file."""
    from safetensors.torch import save

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    return network, save({key: value.contiguous() for key, value in network.state_dict().items()})


def test_words_to_sources() -> None:
    assert parse_source("timm:ResNet18.A1_in1k") == Published("timm", "resnet18.a1_in1k")
    for text in ("timm:", "timm:resnet18.", "timm:a b", "timm:resnet18/x"):
        with pytest.raises(UsageError, match="is no name of timm's"):
            parse_source(text)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet1", "Did you mean 'resnet"),
        ("resnet18.a1_in2k", "Did you mean 'a1_in1k'?"),
        ("resnext50d_32x8d", "has no 'resnext50d_32x8d'"),
        ("vit_tiny_patch16_224", "timm:vit_tiny_patch16_224 is no ResNet: timm has it in its file vision_transformer"),
        ("resnest50d", "timm:resnest50d is no ResNet: timm has it in its file resnest"),
        ("resnet50_gn", "it has GroupNorm"),
        ("resnetv2_50x1_bit", "StdConv2d"),
        ("resnetblur50", "BlurPool2d"),
        ("resnetaa50", "it has pools in its blocks"),
        ("seresnext26ts", "is no ResNet: timm has it in its file byobnet"),
        ("vgg16_bn", "timm has a VGG's linear layers as convolutions"),
        ("legacy_seresnet18", "timm keeps these weights at https://"),
        ("resnet200", "publishes no weights of it"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        configuration(name)
    assert words in caught.value.message
    assert caught.value.fix


def test_init_takes_the_weights_and_timms_normalisation(capsys: Capture, hub: StandIn) -> None:
    """A deep stem and averaged shortcuts, and logits that are timm's own on images that it normalises so."""
    record = timm.models.get_pretrained_cfg("resnet10t")
    network, content = weights("resnet10t")
    commit = hub.repository(record.hf_hub_id, {"model.safetensors": content}).commits[-1][0]
    words = ("init", "--from", "timm:resnet10t", "--arch", "spiking-resnet18", "student.width=4", "-o", "a.safetensors")
    plan = invoke(capsys, *words, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert plan.document["downloads"][0]["source"] == "timm:resnet10t"
    assert hub.sent_bytes < 110_000
    done = invoke(capsys, *words)
    assert done.code == 0, done.err
    assert (
        f"timm's configuration of resnet10t.{record.tag} says that it tells 1,000 classes apart and images are "
        "normalised by mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in done.err
    )
    state, metadata = load_state(Path("a.safetensors"))
    assert state["input.mean"].flatten().tolist() == pytest.approx(record.mean)
    assert metadata["provenance"]["source"] == {
        "name": f"timm:resnet10t.{record.tag}",
        "repository": record.hf_hub_id,
        "commit": commit,
        "file": "model.safetensors",
    }
    image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (record.mean, record.std))
    with torch.no_grad():
        assert torch.allclose(load("timm:resnet10t")(image), network((image - mean) / std), atol=1e-4)


@pytest.mark.slow
def test_a_repository_of_timms_tells_the_same_of_itself(capsys: Capture, hub: StandIn) -> None:
    """The same weights under their hub's name: config.json, as timm writes it, says what timm's list does."""
    record = timm.models.get_pretrained_cfg("resnetv2_18")
    assert record.mean == (0.5, 0.5, 0.5)
    _, content = weights("resnetv2_18")
    config = {"architecture": "resnetv2_18", "num_classes": 1000, "pretrained_cfg": record.to_dict()}
    hub.repository(record.hf_hub_id, {"model.safetensors": content, "config.json": json.dumps(config).encode()})
    means = []
    for name in ("timm:resnetv2_18", f"hf://{record.hf_hub_id}"):
        words = ("--arch", "spiking-resnet18", "student.width=4", "-o", "b.safetensors", "--force")
        done = invoke(capsys, "init", "--from", name, *words)
        assert done.code == 0, done.err
        means.append(load_state(Path("b.safetensors"))[0]["input.mean"].flatten().tolist())
    assert means == [[0.5] * 3] * 2


@pytest.mark.slow
def test_what_passes_is_read_or_refused_by_its_tensors() -> None:
    """Of what timm publishes in these files, whatever is not refused by name: two odd shapes are, by tensors."""
    refused = []
    published = [each for family in FAMILIES for each in timm.list_models(module=family, pretrained=True)]
    small = dict.fromkeys(name for each in published if not re.search(r"\d{3}", name := each.partition(".")[0]))
    for name in small:
        try:
            configuration(name)
        except UsageError:
            continue
        with torch.device("meta"):
            state = timm.create_model(name, pretrained=False).state_dict()
        try:
            identify_tensors({key: tuple(value.shape) for key, value in state.items()}, state.__getitem__, where=name)
        except IdsnnError:
            refused.append(name)
    assert sorted(refused) == ["ecaresnet50d_pruned", "test_resnet"]
    assert len(small) > 40
