"""The page of a layer map and of a comparison, as a parser sees it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reading import Page, contrast
from tiny_checkpoints import random_state, resnet, save, spiking, torchvision_state

from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import Rules, initialize, random_plan
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint, describe_plan
from idsnn_cli.report.inspect.comparison import compare_checkpoints
from idsnn_cli.report.inspect.page import render_page
from idsnn_cli.report.inspect.views import index_words

EVIL = "</script><img src=x onerror=alert(1)>\"'&"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its twin in torchvision's names with a key that wants to be HTML, and a student of random channels."""
    folder = tmp_path_factory.mktemp("pages")
    state = random_state(resnet(14, 8))
    save(folder / "teacher.safetensors", "teacher", resnet(14, 8), state)
    torch.save(torchvision_state(state) | {EVIL: torch.zeros(2)}, folder / "foreign.pth")
    made = initialize(state, spiking(8, 4), rules=Rules(channels="random"))
    provenance = {"source_tensors_sha256": made.source_sha256}
    save(
        folder / "init.safetensors",
        "init",
        spiking(8, 4),
        made.state,
        mapping=made.plan.to_dict(),
        provenance=provenance,
        metrics={EVIL: 1.0},
    )
    return folder


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    from idsnn_cli.families import Reading
    from idsnn_cli.sources.opened import open_source

    reading = Reading("auto", True)
    teacher, init = folder / "teacher.safetensors", folder / "init.safetensors"
    foreign = folder / "foreign.pth"
    made = initialize(foreign, spiking(8, 4), allow_unused=True)
    with open_source(foreign, reading) as opened:
        planned = describe_plan(opened, made.plan, made.state, values=True).to_dict()
    return {
        "a map": describe_checkpoint(init, values=True).to_dict(),
        "a map without values": describe_checkpoint(init).to_dict(),
        "a map with its source": describe_checkpoint(init, values=True, source=teacher).to_dict(),
        "a plan": planned,
        "two files": compare_checkpoints(teacher, foreign, reading).to_dict(),
        "two sizes": compare_checkpoints(teacher, init).to_dict(),
    }


@pytest.mark.parametrize(
    "case", ["a map", "a map without values", "a map with its source", "a plan", "two files", "two sizes"]
)
def test_every_page_is_sound_html_of_its_own(folder: Path, case: str) -> None:
    document = documents(folder)[case]
    text = render_page(document)
    page = Page(text)
    assert page.faults == []
    assert text.startswith("<!doctype html>")
    assert len(page.ids) == len(set(page.ids))
    assert set(page.referred) <= set(page.ids)
    assert page.document == document
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("title"), tags.count("h1"), tags.count("main")) == (1, 1, 1)
    assert dict(page.elements)["html"]["lang"] == "en"
    steps = page.headings()
    assert all(after <= before + 1 for before, after in itertools.pairwise(steps))
    # Nothing is fetched, and nothing but the page's own script may run.
    assert "img" not in tags
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]
    policy = next(about["content"] for tag, about in page.elements if about.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.raw["script"].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert not any(key.startswith("on") for _, about in page.elements for key in about)


def test_blocks_are_joined_as_the_mapping_says(folder: Path) -> None:
    document = documents(folder)["a map"]
    page = Page(render_page(document))
    nodes = {about["id"]: about for tag, about in page.elements if "node" in about.get("class", "").split()}
    teacher = [block["name"] for block in document["mapping"]["source_blocks"]]
    student = [block["name"] for block in document["mapping"]["blocks"] if block["name"] != "input"]
    for number, name in enumerate(student):
        takes = next(block["takes"] for block in document["mapping"]["blocks"] if block["name"] == name)
        ends = [f"left-{teacher.index(takes)}"] if takes else []
        assert nodes[f"right-{number}"]["data-ends"].split() == ends
        assert ("empty" in nodes[f"right-{number}"]["class"].split()) == (takes is None)
    assert len(nodes) == len(teacher) + len(student)


def test_values_and_channels_stand_on_the_page(folder: Path) -> None:
    document = documents(folder)["a map with its source"]
    words = Page(render_page(document)).words
    mean = document["statistics"]["stages.1.0.conv0.weight"]["mean"]
    assert f"{mean:.3g}" in words
    chosen = next(each for each in document["mapping"]["selections"] if each["target"] == "stages.1")
    assert index_words(chosen["channels"]) in words
    # A student that has not moved is still where the plan put it.
    assert all(layer["change"] in (0.0, None) for layer in document["mapping"]["layers"])


def test_a_random_start_has_a_page_too(tmp_path: Path) -> None:
    state = random_state(spiking())
    path = save(tmp_path / "b.safetensors", "baseline", spiking(), state, mapping=random_plan(spiking()).to_dict())
    page = Page(render_page(describe_checkpoint(path, values=True).to_dict()))
    assert page.faults == []
    assert "the student started at random" in page.words
    assert "left-0" not in page.ids


def test_a_file_without_a_map_has_no_page(folder: Path) -> None:
    with pytest.raises(UsageError, match="carries no layer map"):
        render_page(describe_checkpoint(folder / "teacher.safetensors").to_dict())


def test_text_can_be_read_in_light_and_dark(folder: Path) -> None:
    for colours in Page(render_page(documents(folder)["a map"])).colours():
        for text in ("ink", "soft", "mark"):
            for ground in ("paper", "card"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        # Between the ends of the scale too, which mix channel by channel.
        assert min(contrast(colours["ink"], colours[ground]) for ground in ("cold", "hot")) >= 4.5
        assert min(contrast(colours[each], colours["paper"]) for each in ("edge", "line", "bar")) >= 3


def test_the_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.integers(0, 12), max_size=30))
def test_index_words_give_every_channel_back(channels: list[int]) -> None:
    read: list[int] = []
    for word in index_words(channels).split(", ") if channels else []:
        if " to " in word:
            first, last = map(int, word.split(" to "))
            read += range(first, last + (1 if last >= first else -1))
        elif " … " in word:
            second, last = map(int, word.split(" … "))
            step = second - read[-1]
            read += range(second, last + (1 if step > 0 else -1), step)
        else:
            read.append(int(word))
    assert read == channels


def test_averages_and_own_channels_are_told_apart() -> None:
    assert index_words([0, 1, 2, 3, [4, 7], [], 5]) == "0 to 3, 4+7, own, 5"
    assert index_words([0, 2, 4, 6, 8, 1]) == "0, 2 … 8, 1"
