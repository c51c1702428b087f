"""``hf://`` wherever a source may be named, against a stand-in of the hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_networks import torchvision_state
from hub_networks import ANN, SPIKING, foreign, ours, pickled
from hub_stand_in import StandIn
from invoking import invoke

from idsnn_cli import initialize, load
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import load_state, write_checkpoint

Capture = pytest.CaptureFixture[str]
START = ("--arch", "spiking-resnet18", "student.width=4", "-o", "a.safetensors")

pytestmark = pytest.mark.usefixtures("hub")


def test_init_fetches_once_and_keeps_the_commit(capsys: Capture, hub: StandIn) -> None:
    content = foreign()
    repository = hub.repository("me/net", {"model.safetensors": content, "README.md": b"# a card"})
    first = repository.commits[-1][0]
    done = invoke(capsys, "init", "--from", "hf://me/net", *START, "--normalise", "half")
    assert done.code == 0, done.err
    assert (
        f"downloading {hub.address}/me/net/resolve/{first}/model.safetensors ({len(content) / 1e6:.3g} MB)" in done.err
    )
    state, metadata = load_state(Path("a.safetensors"))
    assert metadata["provenance"]["source"] == {
        "name": "hf://me/net",
        "repository": "me/net",
        "commit": first,
        "file": "model.safetensors",
    }
    Path("same.safetensors").write_bytes(content)
    words = ("--normalise", "half", "--force")
    assert invoke(capsys, "init", "--from", "same.safetensors", *START, *words).code == 0
    same, of_file = load_state(Path("a.safetensors"))
    assert all(torch.equal(state[key], value) for key, value in same.items())
    assert "source" not in of_file["provenance"]
    fetched = [path for path in hub.paths("GET") if path.endswith("model.safetensors")]
    again = invoke(capsys, "init", "--from", "hf://me/net", *START, *words)
    assert again.code == 0
    assert "downloading" not in again.err
    assert [path for path in hub.paths("GET") if path.endswith("model.safetensors")] == fetched
    # Nothing else of the repository is fetched.
    assert not [path for _, path in hub.asked if path.endswith("README.md")]


def test_a_dry_run_reads_the_header_alone(capsys: Capture, hub: StandIn) -> None:
    content = foreign()
    hub.repository("me/net", {"model.safetensors": content})
    words = ("init", "--from", "hf://me/net", *START, "--normalise", "half", "--dry-run")
    shown = invoke(capsys, *words, "--json")
    plan = shown.document
    assert plan["downloads"] == [
        {
            "source": "hf://me/net",
            "url": f"{hub.address}/me/net/resolve/{hub.repositories['me/net'].commits[-1][0]}/model.safetensors",
            "megabytes": len(content) / 1e6,
        }
    ]
    assert plan["networks"]["source"]["parameters"] == ANN.parameters()
    assert "hf://me/net: looked at by the header of model.safetensors alone" in shown.err
    # The client asks for 100,001 bytes at once.
    assert hub.sent_bytes < 110_000 < len(content)
    assert "would download" in invoke(capsys, *words).out
    assert not list(Path("cache").rglob("model.safetensors"))
    assert not Path("a.safetensors").exists()


def test_a_dry_run_says_that_a_pickle_has_to_come(capsys: Capture, hub: StandIn) -> None:
    hub.repository("me/net", {"net.pth": pickled()})
    shown = invoke(capsys, "init", "--from", "hf://me/net", *START, "--normalise", "half", "--dry-run", "--json")
    assert "hf://me/net: only the whole file tells what is in it, so it is downloaded now" in shown.err
    assert "downloading http://" in shown.err
    assert shown.document["downloads"] == []
    assert shown.document["networks"]["source"]["parameters"] == ANN.parameters()


@pytest.mark.slow
def test_ours_is_measured_inspected_exported_and_loaded(capsys: Capture, hub: StandIn) -> None:
    content = ours()
    commit = hub.repository("me/snn", {"model.safetensors": content, "README.md": b"x"}).commits[-1][0]
    planned = invoke(capsys, "eval", "--checkpoint", "hf://me/snn", "--dry-run", "--json").document
    assert planned["networks"]["snn"]["parameters"] == SPIKING.parameters()
    assert planned["data"]["name"] == "digits"
    assert not list(Path("cache").rglob("model.safetensors"))
    measured = invoke(capsys, "eval", "--checkpoint", "hf://me/snn", "data.test_subset=40", "--json")
    assert measured.code == 0, measured.err
    row = measured.document["results"][0]
    of_file = invoke(capsys, "eval", "--checkpoint", "ours.safetensors", "data.test_subset=40", "--json").document
    assert row["top1_by_step"] == of_file["results"][0]["top1_by_step"]
    assert row["source"] == {
        "name": "hf://me/snn",
        "repository": "me/snn",
        "commit": commit,
        "file": "model.safetensors",
    }
    assert "source" not in of_file["results"][0]
    shown = invoke(capsys, "inspect", "hf://me/snn", "--json").document
    assert (shown["kind"], shown["file"], shown["file_bytes"]) == ("student", "hf://me/snn", len(content))
    assert invoke(capsys, "inspect", "hf://me/snn", "ours.safetensors", "--exit-code", "-q").code == 0
    done = invoke(capsys, "export", "hf://me/snn", "-o", "net.pt2", "--image-size", "32", "--json")
    assert done.code == 0, done.err
    assert done.document["source"] == "hf://me/snn"
    refused = invoke(capsys, "export", "hf://me/snn", "-o", "folded.safetensors", "--format", "fold")
    assert refused.code == 2
    assert "hf://me/snn has nothing to fold" in refused.err
    image = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(load("hf://me/snn")(image), load("ours.safetensors")(image))
    assert initialize("hf://me/snn", "spiking-resnet8").scheme == "idsnn"


def test_a_recipe_names_a_teacher_there(capsys: Capture, hub: StandIn) -> None:
    commit = hub.repository("me/net", {"model.safetensors": foreign()}).commits[-1][0]
    words = ("data.subset=64", "data.test_subset=40", "teacher.normalise=half")
    named = "teacher.checkpoint=hf://me/net"
    plan = invoke(capsys, "teacher", "quickstart", named, *words, "--run-dir", "run", "--dry-run", "--json")
    assert [each["source"] for each in plan.document["downloads"]] == ["hf://me/net"]
    assert not list(Path("cache").rglob("model.safetensors"))
    done = invoke(capsys, "teacher", "quickstart", named, *words, "--run-dir", "run")
    assert done.code == 0, done.err
    assert load_state(Path("run/teacher.safetensors"))[1]["provenance"]["source"]["commit"] == commit
    assert 'checkpoint: "hf://me/net"' in Path("run/resolved.yaml").read_text()
    assert "already done" in invoke(capsys, "teacher", "quickstart", named, *words, "--run-dir", "run").out
    wrong = invoke(capsys, "teacher", "quickstart", "teacher.checkpoint=hf://net")
    assert wrong.code == 2
    assert "teacher.checkpoint" in wrong.err
    assert "names no file on the hub" in wrong.err


@pytest.mark.slow
def test_convert_plans_by_the_header(capsys: Capture, hub: StandIn) -> None:
    hub.repository("me/net", {"model.safetensors": foreign()})
    words = ("convert", "hf://me/net", "--data", "digits", "--normalise", "half", "--dry-run", "--json")
    plan = invoke(capsys, *words, "data.subset=64")
    assert plan.code == 0, plan.err
    assert plan.document["run_dir"] == "runs/convert-hf-net"
    assert plan.document["downloads"][0]["source"] == "hf://me/net"
    assert not list(Path("cache").rglob("model.safetensors"))


SETTINGS: list[tuple[str, Any, tuple[list[float], list[float]] | None]] = [
    (
        "config.json",
        {"architecture": "x", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}},
        ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0]),
    ),
    (
        "preprocessor_config.json",
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]},
        ([0.5] * 3, [0.25] * 3),
    ),
    ("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": False}, None),
    ("preprocessor_config.json", {"image_mean": [127.0] * 3, "image_std": [64.0] * 3, "rescale_factor": 1.0}, None),
    ("config.json", {"pretrained_cfg": {"mean": [0.1, 0.2], "std": [1, 2, 3]}}, None),
    ("config.json", {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 0]}}, None),
    ("config.json", ["no object"], None),
]


@pytest.mark.parametrize(("file", "content", "expected"), SETTINGS)
def test_settings_beside_it_say_how_images_are_normalised(
    capsys: Capture, hub: StandIn, file: str, content: Any, expected: tuple[list[float], list[float]] | None
) -> None:
    hub.repository("me/net", {"model.safetensors": foreign(), file: json.dumps(content).encode()})
    done = invoke(capsys, "init", "--from", "hf://me/net", *START)
    assert done.code == 0, done.err
    state = load_state(Path("a.safetensors"))[0]
    if expected is None:
        assert "does not carry its input normalisation; the student gets ImageNet's" in done.err
        return
    assert "the settings beside it say that images are normalised by mean" in done.err
    assert "ImageNet" not in done.err
    assert state["input.mean"].flatten().tolist() == pytest.approx(expected[0])
    assert state["input.std"].flatten().tolist() == pytest.approx(expected[1])
    # What is said in the command counts more.
    assert invoke(capsys, "init", "--from", "hf://me/net", *START, "--normalise", "half", "--force").code == 0
    assert load_state(Path("a.safetensors"))[0]["input.std"].flatten().tolist() == [0.5] * 3


@pytest.mark.parametrize("dry", [True, False])
def test_settings_beside_it_that_tell_of_another_network_are_obeyed(capsys: Capture, hub: StandIn, dry: bool) -> None:
    settings = {"architecture": "resnetaa50d", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    hub.repository("me/net", {"model.safetensors": foreign(), "config.json": json.dumps(settings).encode()})
    done = invoke(capsys, "init", "--from", "hf://me/net", *START, *(["--dry-run"] if dry else []))
    assert done.code == 1
    assert "its setting 'config.json.architecture' says 'resnetaa50d'" in done.err


def test_a_network_in_several_files(capsys: Capture, hub: StandIn) -> None:
    state = torchvision_state(ANN)
    names = {key: f"part-{number % 2}.safetensors" for number, key in enumerate(state)}
    files = {"sub/model.safetensors.index.json": json.dumps({"weight_map": names}).encode()}
    for name in set(names.values()):
        write_checkpoint(Path(name), {key: state[key] for key in state if names[key] == name}, {})
        files[f"sub/{name}"] = Path(name).read_bytes()
    hub.repository("me/net", files)
    named = "hf://me/net/sub/model.safetensors.index.json"
    done = invoke(capsys, "init", "--from", named, *START, "--normalise", "half")
    assert done.code == 0, done.err
    stem = load_state(Path("a.safetensors"))[0]["stem.conv.weight"]
    assert torch.equal(stem, state["conv1.weight"])
    shown = invoke(capsys, "inspect", named, "--json").document
    assert shown["file_bytes"] == sum(map(len, files.values()))


def test_zeros_of_option_a_are_looked_for_in_values(capsys: Capture, hub: StandIn) -> None:
    """What only values tell is found out of the file, which then comes, also where a header would have been enough."""
    from safetensors.torch import save

    source = build_description("resnet20", 10, width=4, shortcut="pad")
    state = {key: value.contiguous() for key, value in torchvision_state(source).items()}
    hub.repository("me/net", {"model.safetensors": save(state)})
    words = (
        "--arch",
        "spiking-resnet20",
        "student.width=4",
        "data.dataset=digits",
        "data.subset=600",
        "-o",
        "b.safetensors",
    )
    done = invoke(capsys, "init", "--from", "hf://me/net", *words, "--normalise", "half", "init.reestimate=0")
    assert "not downloaded yet" not in done.err
    # Of random weights images show nothing; that is told, and is no other failure.
    assert "option-A" in done.err


@pytest.mark.slow
def test_a_repository_as_transformers_writes_it(hub: StandIn) -> None:
    """Its settings beside the weights say in which convolution bottlenecks stride, and how images are normalised."""
    transformers = pytest.importorskip("transformers", reason="transformers is a test extra")
    torch.manual_seed(0)
    shape = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2], "layer_type": "bottleneck"}
    config = transformers.ResNetConfig(**shape, downsample_in_bottleneck=True, num_labels=3)
    network = transformers.ResNetForImageClassification(config).eval()
    network.save_pretrained("saved")
    preprocessor = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    Path("saved/preprocessor_config.json").write_text(json.dumps(preprocessor))
    hub.repository("me/net", {path.name: path.read_bytes() for path in Path("saved").iterdir()})
    image = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(preprocessor[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.no_grad():
        expected = network((image - mean) / std).logits
        assert torch.allclose(load("hf://me/net")(image), expected, atol=1e-5)
