"""What can go wrong between here and the hub: one typed error each, and nothing half written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from foreign_networks import torchvision_state
from hub_stand_in import TOKEN, StandIn
from invoking import invoke

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import HubError, IdsnnError, MissingPackageError, WriteError
from idsnn_cli.hub import reading

Capture = pytest.CaptureFixture[str]
ANN = build_description("resnet18", 10, width=4, stem="3x3")
HALF = ([0.5] * 3, [0.5] * 3)


def content() -> bytes:
    from safetensors.torch import save

    return save({key: value.contiguous() for key, value in torchvision_state(ANN).items()})


def blobs() -> list[Path]:
    """What the cache holds of any file's content; what a client keeps to go on with has a name that nothing reads."""
    files = [path for path in Path("cache").rglob("*") if path.is_file() and "blobs" in path.parts]
    return [path for path in files if path.suffix != ".incomplete"]


def refusal(name: str) -> IdsnnError:
    with pytest.raises(IdsnnError) as caught:
        load(name, normalise=HALF)
    assert caught.value.fix
    assert blobs() == []
    assert not list(Path("cache").rglob("*.safetensors"))
    return caught.value


def test_what_is_not_there(hub: StandIn) -> None:
    hub.repository("me/net", {"model.safetensors": content()})
    missing = refusal("hf://me/other")
    assert isinstance(missing, HubError)
    assert "hf://me/other: there is no such repository, or it is private and not for this account" in missing.message
    assert "HF_TOKEN" in str(missing.fix)
    assert "has no such revision" in refusal("hf://me/net@v9").message
    assert "no such file. Did you mean 'model.safetensors'?" in refusal("hf://me/net/modell.safetensors").message


def test_private_repositories_take_a_token(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repository("me/net", {"model.safetensors": content()}, private=True)
    assert "private and not for this account (HTTP 401)" in refusal("hf://me/net").message
    monkeypatch.setenv("HF_TOKEN", "hf_anotherToken")
    assert "private and not for this account (HTTP 404)" in refusal("hf://me/net").message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert load("hf://me/net", normalise=HALF).architecture.num_classes == 10
    assert hub.tokens[-1] == TOKEN


def test_gated_repositories_are_asked_for_on_their_page(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repository("me/net", {"model.safetensors": content()}, gated=True)
    error = refusal("hf://me/net")
    assert "let in only whom they have let in" in error.message
    assert "Ask for access" in str(error.fix)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert load("hf://me/net", normalise=HALF).architecture.num_classes == 10


def test_a_download_that_breaks_off_leaves_nothing(hub: StandIn, capsys: Capture) -> None:
    hub.repository("me/net", {"model.safetensors": content()})
    hub.faults["resolve"] = "truncated"
    assert "could not be fetched" in refusal("hf://me/net").message
    done = invoke(capsys, "inspect", "hf://me/net")
    assert (done.code, blobs()) == (1, [])
    hub.faults.clear()
    assert load("hf://me/net", normalise=HALF).architecture.num_classes == 10


def test_other_bytes_than_the_hub_lists_are_not_kept(hub: StandIn) -> None:
    hub.repository("me/net", {"model.safetensors": content()})
    hub.faults["resolve"] = "corrupt"
    assert "its SHA-256 differs); it was not kept" in refusal("hf://me/net").message
    hub.faults.clear()
    assert load("hf://me/net", normalise=HALF).architecture.num_classes == 10


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (500, "the hub answers with HTTP 500"),
        (503, "the hub answers with HTTP 503"),
        (429, "too many requests"),
        (403, "refuses this account (HTTP 403: as the test wants it)"),
        (418, "the hub refuses (HTTP 418: as the test wants it)"),
    ],
)
@pytest.mark.parametrize("where", ["/api/models", "/resolve/"])
def test_answers_that_are_no_files(hub: StandIn, fault: int, words: str, where: str) -> None:
    hub.repository("me/net", {"model.safetensors": content()})
    hub.faults[where] = fault
    assert words in refusal("hf://me/net").message


def test_what_is_no_hub(hub: StandIn) -> None:
    hub.repository("me/net", {"model.safetensors": content()})
    hub.faults["info"] = "no commit"
    assert "what answers is no hub" in refusal("hf://me/net").message
    hub.faults = {"/resolve/": "no commit"}
    assert "could not be fetched" in refusal("hf://me/net").message


def test_a_file_that_is_no_checkpoint(hub: StandIn, capsys: Capture) -> None:
    hub.repository("me/net", {"model.safetensors": b"<!doctype html><title>Log in</title>" + b" " * 2000})
    planned = invoke(capsys, "eval", "--checkpoint", "hf://me/net", "--data", "digits", "--dry-run")
    assert planned.code == 1
    assert "hf://me/net: model.safetensors does not open as a safetensors file does." in planned.err
    shown = invoke(capsys, "inspect", "hf://me/net")
    assert shown.code == 1
    assert "not a checkpoint: it is an HTML page" in shown.err


def test_a_pickle_that_runs_code_is_not_opened(hub: StandIn) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, ("harmed",))

    hub.repository("me/net", {"net.pth": pickle.dumps({"state_dict": Harm()})})
    with pytest.raises(IdsnnError, match="pickle"):
        load("hf://me/net", normalise=HALF)
    assert not Path("harmed").exists()


def test_without_a_connection_the_cache_serves(hub: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    from huggingface_hub import constants

    hub.repository("me/net", {"model.safetensors": content()})
    first = load("hf://me/net", normalise=HALF).state_dict()
    words = ("inspect", "hf://me/net")
    # Nobody listens there.
    for name, value in (("ENDPOINT", "http://127.0.0.1:9"), ("HF_HUB_OFFLINE", True)):
        with monkeypatch.context() as patch:
            patch.setattr(constants, name, value)
            patch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
            )
            reading.forget()
            asked = len(hub.asked)
            again = load("hf://me/net", normalise=HALF).state_dict()
            assert all((again[key] == each).all() for key, each in first.items())
            assert len(hub.asked) == asked
            shown = invoke(capsys, *words)
            why = "HF_HUB_OFFLINE is set" if name == "HF_HUB_OFFLINE" else "the hub is not reached"
            assert shown.code == 0
            reading.forget()
            assert why in invoke(capsys, *words).err
            assert shown.out.count("hf://me/net") == 1
            with pytest.raises(HubError, match="the cache does not have it") as caught:
                load("hf://me/other", normalise=HALF)
            assert why in caught.value.message
            with pytest.raises(HubError, match="the cache does not have it"):
                load("hf://me/net/other.safetensors", normalise=HALF)
            with pytest.raises(HubError, match="the cache does not have it"):
                load("hf://me/net@v1", normalise=HALF)


def test_a_disk_that_is_full_or_closed(hub: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    hub.repository("me/net", {"model.safetensors": content()})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        error = refusal("hf://me/net")
        assert isinstance(error, WriteError)
        assert "no space left on device" in error.message
        assert "HF_HUB_CACHE" in str(error.fix)
    Path("file").write_text("no folder")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", "file/cache")
    done = invoke(capsys, "inspect", "hf://me/net")
    assert done.code == 1
    assert "could not be written" in done.err
    assert Path("file").read_text() == "no folder"


@pytest.mark.parametrize(("name", "extra"), [("hf://me/net", "hub"), ("timm:resnet18", "timm")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str, extra: str) -> None:
    from idsnn_cli.sources.kinds.timm import configuration

    configuration.cache_clear()
    monkeypatch.setattr("idsnn_cli.extras.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError) as caught:
        load(name)
    assert caught.value.fix == f"Install it with: pip install 'idsnn-cli[{extra}]'"
    done = invoke(capsys, "init", "--from", name, "--arch", "spiking-resnet18", "-o", "a.safetensors", "--json")
    assert done.code == 1
    assert done.document["error"]["type"] == "MissingPackageError"
