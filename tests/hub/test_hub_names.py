"""``hf://`` names: what is read, what is refused, and which file of a repository is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsnn_cli.errors import HubError, UsageError
from idsnn_cli.hub.choosing import choose
from idsnn_cli.hub.names import HubName, parse_hub
from idsnn_cli.sources.names import Published, parse_source


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file", "short"),
    [
        ("hf://me/net", "me/net", None, None, "net"),
        ("hf:me/net", "me/net", None, None, "net"),
        ("hf://models/me/net", "me/net", None, None, "net"),
        ("hf://models/net", "models/net", None, None, "net"),
        ("hf://timm/resnet18.a1_in1k@v1.0", "timm/resnet18.a1_in1k", "v1.0", None, "resnet18.a1_in1k"),
        ("hf://me/net@0123abc/runs/a b.pth.tar", "me/net", "0123abc", "runs/a b.pth.tar", "a b.pth"),
        ("hf://me/net/model.safetensors", "me/net", None, "model.safetensors", "model"),
        ("hf://me/net@refs/pr/7/model.safetensors", "me/net", "refs/pr/7", "model.safetensors", "model"),
        ("hf://me/net@refs/pr/7", "me/net", "refs/pr/7", None, "net"),
        ("hf://me/net@feature%2Fx/w.pt", "me/net", "feature%2Fx", "w.pt", "w"),
    ],
)
def test_names_are_taken_apart(text: str, repo: str, revision: str | None, file: str | None, short: str) -> None:
    assert parse_hub(text) == HubName(repo, revision, file)
    source = parse_source(text)
    assert isinstance(source, Published)
    assert source.name == short
    assert parse_source(str(source)) == source
    assert str(source).startswith(f"hf://{repo}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hf://", "names no file on the hub"),
        ("hf://net", "names no file on the hub"),
        ("hf://me/", "names no file on the hub"),
        ("hf:///net", "names no file on the hub"),
        ("hf://me/net@", "names no file on the hub"),
        ("hf://me/net@a@b", "names no file on the hub"),
        ("hf://me/n et", "names no file on the hub"),
        ("hf://me/net/../other/w.pt", "names no file on the hub"),
        ("hf://me/net//w.pt", "names no file on the hub"),
        ("hf://me/net/a\\b.pt", "names no file on the hub"),
        ("hf://me/net/\x1b[31m.pt", "names no file on the hub"),
        ("hf://datasets/me/images", "is a data set"),
        ("hf://spaces/me/app", "is a space"),
        ("hf://-me/net", "no name '-me'"),
        ("hf://me/net.", "no name 'net.'"),
        ("hf://me/a--b", "no name 'a--b'"),
        ("hf://me/" + "n" * 97, "no name 'nnn"),
        ("hf://me/net.git", "ends in .git"),
        ("hf://me/net/modeling_net.py", "no kind of file that is read here"),
        ("hf://me/net/model.onnx", "no kind of file that is read here"),
        ("hf://me/net/model", "no kind of file that is read here"),
    ],
)
def test_what_names_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(text)
    assert words in caught.value.message
    assert caught.value.fix


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        found = parse_hub(text)
    except UsageError:
        return
    assert parse_hub(str(found)) == found
    assert found.repo.count("/") == 1


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (("model.safetensors", "other.safetensors", "pytorch_model.bin"), "model.safetensors"),
        (
            ("model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"),
            "model.safetensors.index.json",
        ),
        (("README.md", "student.safetensors", "pytorch_model.bin"), "student.safetensors"),
        (("weights/a.safetensors", "pytorch_model.bin"), "weights/a.safetensors"),
        (("a.safetensors", "old/b.safetensors"), "a.safetensors"),
        (("pytorch_model.bin", "training_args.bin", "flax_model.msgpack"), "pytorch_model.bin"),
        (("training_args.bin", "optimizer.pt", "resnet20.th"), "resnet20.th"),
        (("net.nir", "model.onnx"), "net.nir"),
    ],
)
def test_the_network_of_a_repository_is_found(files: tuple[str, ...], chosen: str) -> None:
    assert choose(HubName("me/net"), files) == chosen


def test_several_or_none_are_told() -> None:
    name = HubName("me/net", "v1")
    with pytest.raises(HubError) as caught:
        choose(name, ("b.pth", "a.pth", "README.md"))
    assert "holds 2 checkpoints: hf://me/net@v1/a.pth, hf://me/net@v1/b.pth" in caught.value.message
    assert "hf://me/net@v1/a.pth" in str(caught.value.fix)
    with pytest.raises(HubError, match=r"no checkpoint that is read here: it holds README.md, train.py"):
        choose(name, ("train.py", "README.md"))
    with pytest.raises(HubError, match="it is empty"):
        choose(name, ())
    with pytest.raises(HubError, match=r"holds 30 checkpoints: .* and 22 more"):
        choose(name, tuple(f"{number:02}.safetensors" for number in range(30)))
