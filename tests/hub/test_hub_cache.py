"""Commits, branches and the cache of the hub: what is read is what was named, on line and off line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from foreign_networks import torchvision_state
from hub_networks import ANN, foreign
from hub_stand_in import TOKEN, StandIn
from invoking import invoke

from idsnn_cli import load
from idsnn_cli.checkpoint import load_state
from idsnn_cli.errors import HubError
from idsnn_cli.sources.names import Published, parse_source

Capture = pytest.CaptureFixture[str]
START = ("--arch", "spiking-resnet18", "student.width=4", "-o", "a.safetensors")

pytestmark = pytest.mark.usefixtures("hub")


def test_a_revision_stands_for_its_commit(capsys: Capture, hub: StandIn) -> None:
    repository = hub.repository("me/net", {"model.safetensors": foreign(1)})
    old = repository.commits[-1][0]
    new = repository.add({"model.safetensors": foreign(2)})
    repository.tags["v1"] = old
    commits, stems = [], []
    for name in ("hf://me/net@v1", f"hf://me/net@{new[:40]}", f"hf://me/net@{old}/model.safetensors"):
        assert invoke(capsys, "init", "--from", name, *START, "--normalise", "half", "--force").code == 0
        state, metadata = load_state(Path("a.safetensors"))
        commits.append(metadata["provenance"]["source"]["commit"])
        stems.append(state["stem.conv.weight"])
    assert commits == [old, new, old]
    assert torch.equal(stems[0], torchvision_state(ANN, 1)["conv1.weight"])
    assert torch.equal(stems[1], torchvision_state(ANN, 2)["conv1.weight"])
    assert torch.equal(stems[0], stems[2])


@pytest.mark.parametrize(
    ("written", "revision", "file"),
    [("refs/pr/7", "refs/pr/7", "model.safetensors"), ("feature%2Fx", "feature/x", "runs/my best.safetensors")],
)
def test_revisions_with_a_slash_and_names_with_a_space(
    hub: StandIn, monkeypatch: pytest.MonkeyPatch, written: str, revision: str, file: str
) -> None:
    from huggingface_hub import constants

    from idsnn_cli.hub.reading import forget

    repository = hub.repository("me/net", {file: foreign(1)})
    repository.tags[revision] = repository.commits[-1][0]
    repository.add({file: foreign(2)})
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        forget()
        for name in (f"hf://me/net@{written}/{file}", f"hf://me/net@{written}"):
            # The cache cannot tell that there is no other.
            guessed = offline and "safetensors" not in name and file != "model.safetensors"
            with pytest.warns(UserWarning, match="may hold others") if guessed else nullcontext():
                state = load(name, normalise=([0.5] * 3, [0.5] * 3)).state_dict()
            assert torch.equal(state["stem.conv.weight"], torchvision_state(ANN, 1)["conv1.weight"])


def test_of_several_networks_the_one_in_the_cache_is_named(
    capsys: Capture, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is read without a connection is what happens to be there: the command says which, and so does a call."""
    from huggingface_hub import constants

    from idsnn_cli.hub.reading import forget

    given = ([0.5] * 3, [0.5] * 3)
    hub.repository("me/net", {"a.safetensors": foreign(1), "b.safetensors": foreign(2)})
    with pytest.raises(HubError, match="holds 2 checkpoints"):
        load("hf://me/net", normalise=given)
    load("hf://me/net/b.safetensors", normalise=given)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    forget()
    told = "b.safetensors, the only network of it there; the repository may hold others"
    assert told in " ".join(invoke(capsys, "inspect", "hf://me/net").err.split())
    forget()
    with pytest.warns(UserWarning, match=told):
        load("hf://me/net", normalise=given)
    forget()
    load("hf://me/net/b.safetensors", normalise=given)


@pytest.mark.parametrize("offline", [False, True])
def test_a_file_of_the_cache_that_was_changed_is_refused(
    hub: StandIn, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    """A commit names the same bytes for good."""
    from huggingface_hub import constants

    from idsnn_cli.hub.reading import forget

    given = ([0.5] * 3, [0.5] * 3)
    repository = hub.repository("me/net", {"model.safetensors": foreign(1)})
    name = f"hf://me/net@{repository.commits[-1][0]}"
    load(name, normalise=given)
    (kept,) = Path("cache").glob("models--me--net/snapshots/*/model.safetensors")
    kept.resolve().write_bytes(foreign(2))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    for _ in range(2):
        forget()
        with pytest.raises(HubError, match="was changed since it was fetched"):
            load(name, normalise=given)
    kept.resolve().write_bytes(foreign(1))
    forget()
    assert torch.equal(
        load(name, normalise=given).state_dict()["stem.conv.weight"], torchvision_state(ANN, 1)["conv1.weight"]
    )


def test_within_a_process_a_branch_is_one_commit(hub: StandIn) -> None:
    from idsnn_cli.hub.reading import forget

    given = ([0.5] * 3, [0.5] * 3)
    repository = hub.repository("me/net", {"model.safetensors": foreign(1)})
    first = load("hf://me/net", normalise=given).state_dict()["stem.conv.weight"]
    repository.add({"model.safetensors": foreign(2)})
    assert torch.equal(load("hf://me/net", normalise=given).state_dict()["stem.conv.weight"], first)
    forget()
    assert not torch.equal(load("hf://me/net", normalise=given).state_dict()["stem.conv.weight"], first)


def test_settings_are_fetched_beside_a_file_that_is_there_already(capsys: Capture, hub: StandIn) -> None:
    """Another program may have fetched the file alone."""
    from huggingface_hub import hf_hub_download

    settings = {"pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}, "architecture": "resnetblur18"}
    hub.repository("me/net", {"model.safetensors": foreign(), "config.json": json.dumps(settings).encode()})
    hf_hub_download("me/net", "model.safetensors")
    done = invoke(capsys, "init", "--from", "hf://me/net", *START)
    assert done.code == 1
    assert "its setting 'config.json.architecture' says 'resnetblur18'" in done.err


def test_another_process_reads_the_commit_that_the_first_found(hub: StandIn) -> None:
    """Under torchrun the main process looks a branch up, and hands on what it stood for."""
    from idsnn_cli.hub.reading import forget

    repository = hub.repository("me/net", {"model.safetensors": foreign(1)})
    main = parse_source("hf://me/net")
    assert isinstance(main, Published)
    main.fetch()
    origin = main.origin()
    repository.add({"model.safetensors": foreign(2), "other.safetensors": b"x"})
    forget()  # the other process has looked nothing up, or finds the branch where it is by now
    for looked in (False, True):
        if looked:
            forget()
            assert main.origin()["commit"] == repository.commits[-1][0]
        main.settle(origin)
        assert main.origin() == origin
        stem = load("hf://me/net", normalise=([0.5] * 3, [0.5] * 3)).state_dict()["stem.conv.weight"]
        assert torch.equal(stem, torchvision_state(ANN, 1)["conv1.weight"])


@pytest.mark.slow
def test_the_clients_own_variables_count(hub: StandIn, tmp_path: Path) -> None:
    """As a person has them: HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE, in processes of their own."""
    hub.repository("me/net", {"model.safetensors": foreign()}, private=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    kept |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*"}

    def inspect(**more: str) -> tuple[int, str]:
        words = [sys.executable, "-m", "idsnn_cli", "inspect", "hf://me/net"]
        done = subprocess.run(words, env=kept | more, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    assert inspect()[0] == 1
    code, said = inspect(HF_TOKEN=TOKEN)
    assert code == 0
    assert f"downloading {hub.address}" in said
    assert list((tmp_path / "home").rglob("model.safetensors"))
    asked = len(hub.asked)
    code, said = inspect(HF_HUB_OFFLINE="1")
    assert (code, len(hub.asked)) == (0, asked)
    assert "HF_HUB_OFFLINE is set" in said
    assert inspect(HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path / "empty"))[0] == 1
