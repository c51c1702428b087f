"""``torchvision:NAME``: wherever a source may be named, with the download replaced by a file made here."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from invoking import invoke

from idsnn_cli import initialize, load
from idsnn_cli.checkpoint import load_state
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.recipe import load_recipe
from idsnn_cli.sources.kinds.torchvision import MODELS
from idsnn_cli.sources.names import Published, as_source, parse_source

Capture = pytest.CaptureFixture[str]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SMALL = ("student.width=4", "--arch", "spiking-resnet18")


class Site:
    """Stands for the place that torchvision downloads from; ``asked`` are the URLs."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
        self.asked.append((url, hash_prefix))
        assert not progress
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), dst)


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    made = Site()
    monkeypatch.setattr(torch.hub, "download_url_to_file", made)
    return made


def test_the_table_is_torchvisions() -> None:
    for name, weights in MODELS.items():
        known = torchvision.models.get_model_weights(name)
        assert weights == tuple(each.name for each in known)
        assert known.DEFAULT.name == weights[-1]
        found = tuple(known[weights[-1]].transforms().mean), tuple(known[weights[-1]].transforms().std)
        assert found == tuple(map(tuple, IMAGENET))


def test_words_to_sources() -> None:
    assert parse_source("torchvision:resnet50") == Published("torchvision", "resnet50/IMAGENET1K_V2")
    assert parse_source("torchvision:ResNet50/imagenet1k_v1") == Published("torchvision", "resnet50/IMAGENET1K_V1")
    assert parse_source("a/torchvision.pth") == Path("a/torchvision.pth")
    for source in (parse_source("torchvision:resnet18"), Path("x.pth")):
        assert as_source(str(source)) == as_source(source) == source
    for text, words in {
        "torchvision:resnet5": "Did you mean 'resnet50'?",
        "torchvision:resnet50/IMAGENET1K_V3": "Did you mean 'IMAGENET1K_V",
        "torchvision:resnet50/": "no weights ''",
        "torchvision:": "no ResNet or VGG ''",
    }.items():
        with pytest.raises(UsageError) as caught:
            parse_source(text)
        assert words in caught.value.message
        assert caught.value.fix


def test_init_downloads_once_and_needs_no_normalisation(capsys: Capture, site: Site) -> None:
    words = ("init", "--from", "torchvision:resnet18", *SMALL)
    done = invoke(capsys, *words, "-o", "a.safetensors")
    assert done.code == 0, done.err
    assert "downloading https://download.pytorch.org/models/resnet18-f37072fd.pth (47 MB)" in done.err
    assert "normalisation" not in done.err
    assert invoke(capsys, *words, "-o", "b.safetensors").code == 0
    assert site.asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")]
    state, metadata = load_state(Path("a.safetensors"))
    assert torch.equal(state["input.mean"].flatten(), torch.tensor(IMAGENET[0]))
    assert torch.equal(state["input.std"].flatten(), torch.tensor(IMAGENET[1]))
    torch.manual_seed(0)
    stem = torchvision.models.resnet18(weights=None).conv1.weight
    assert torch.equal(state["stem.conv.weight"], stem[:4])
    assert metadata["provenance"]["source_scheme"] == "torchvision"


def test_a_dry_run_lists_the_download_and_does_not_do_it(capsys: Capture, site: Site) -> None:
    words = ("init", "--from", "torchvision:resnet18/IMAGENET1K_V1", *SMALL, "-o", "a.safetensors", "--dry-run")
    plan = invoke(capsys, *words, "--json").document
    assert plan["downloads"] == [
        {
            "source": "torchvision:resnet18/IMAGENET1K_V1",
            "url": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
            "megabytes": pytest.approx(46.83, abs=0.01),
        }
    ]
    assert plan["networks"]["source"]["parameters"] == 11_689_512
    assert plan["mapping"]["random"] > 0
    assert "would download https://" in invoke(capsys, *words).out
    assert site.asked == []
    assert not Path("a.safetensors").exists()


def test_a_recipe_names_it_too(capsys: Capture, site: Site) -> None:
    student = (
        "init.source=torchvision:resnet18",
        "init.head=random",
        "student.arch=spiking-resnet18",
        "student.width=4",
        "student.stem=7x7",
    )
    words = ("init", "quickstart", *student, "--run-dir", "run")
    plan = invoke(capsys, *words, "--dry-run", "--json").document
    assert [each["source"] for each in plan["downloads"]] == ["torchvision:resnet18/IMAGENET1K_V1"]
    assert site.asked == []
    done = invoke(capsys, *words)
    assert done.code == 0, done.err
    resolved = Path("run/resolved.yaml")
    assert "torchvision:resnet18/IMAGENET1K_V1" in resolved.read_text()
    assert load_recipe(resolved).recipe.init.source == Published("torchvision", "resnet18/IMAGENET1K_V1")
    again = invoke(capsys, *words)
    assert "already done" in again.out
    assert len(site.asked) == 1
    wrong = invoke(capsys, "teacher", "quickstart", "teacher.checkpoint=torchvision:resnet3")
    assert wrong.code == 2
    assert "teacher.checkpoint" in wrong.err
    assert "torchvision publishes no ResNet or VGG 'resnet3'" in wrong.err
    assert "Did you mean 'resnet" in wrong.err
    classes = invoke(capsys, "teacher", "quickstart", "teacher.checkpoint=torchvision:resnet18", "--run-dir", "other")
    assert classes.code == 2
    assert "tells 1000 classes apart, but digits has 10" in classes.err


def test_inspect_eval_and_python_take_it(capsys: Capture, site: Site) -> None:
    shown = invoke(capsys, "inspect", "torchvision:resnet18", "--json").document
    assert shown["file"] == "torchvision:resnet18/IMAGENET1K_V1"
    assert shown["parameters"] == 11_689_512
    assert shown["file_bytes"] > 4 * 11_689_512
    measured = invoke(capsys, "eval", "--checkpoint", "torchvision:resnet18", "--data", "digits", "--dry-run")
    assert "1000 classes" in measured.err
    model = load("torchvision:resnet18")
    assert model.input.mean.flatten().tolist() == pytest.approx(IMAGENET[0])
    found = initialize("torchvision:resnet18", "spiking-resnet18", num_classes=3)
    assert not found.normalisation_given
    assert len(site.asked) == 1


def test_a_download_that_fails_is_one_error(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Published("torchvision", "resnet18/IMAGENET1K_V1")
    for fault in (URLError("no route"), RuntimeError('invalid hash value (expected "f37072fd", got "0")')):

        def refuse(*_: object, _fault: Exception = fault, **__: object) -> None:
            raise _fault

        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        with pytest.raises(CheckpointError, match=r"could not be downloaded: (no route|invalid hash)") as caught:
            source.fetch()
        assert caught.value.fix
        done = invoke(capsys, "inspect", "torchvision:resnet18")
        assert done.code == 1
        assert source.needed_download() is not None


def test_a_damaged_file_in_the_cache_is_refused(site: Site) -> None:
    path = Published("torchvision", "resnet18/IMAGENET1K_V1").fetch()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load("torchvision:resnet18")
    assert len(site.asked) == 1
