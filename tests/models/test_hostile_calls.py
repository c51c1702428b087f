"""What Python calls are given that they cannot take: an error that says so, never one of Python's own, never a hang."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from idsnn_cli import distill, evaluate, evaluate_run, initialize, load, save
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import UsageError, WriteError
from idsnn_cli.models import Model, build

NAME = "spiking-resnet8"


def network(name: str = "resnet8") -> Model:
    return build(build_description(name, 10, width=4), seed=0)


CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "load of nothing": (lambda: load(None), "a network is named by a NoneType"),  # type: ignore[arg-type]
    "load of a number": (lambda: load(3), "a network is named by a int"),  # type: ignore[arg-type]
    "load of bytes": (lambda: load(b"a"), "a network is named by a bytes"),  # type: ignore[arg-type]
    "load of empty text": (lambda: load(""), "the path of a network is empty"),
    "save to nothing": (lambda: save(network(), None), "cannot be saved to None"),  # type: ignore[arg-type]
    "save to empty text": (lambda: save(network(), ""), "cannot be saved to ''"),
    "no target": (lambda: initialize(network(), None), "target is a NoneType"),  # type: ignore[arg-type]
    "no source": (lambda: initialize(None, NAME), "source is a NoneType"),  # type: ignore[arg-type]
    "a rule's name": (lambda: initialize(network(), NAME, rules="loop"), "rules is a str"),  # type: ignore[arg-type]
    "a seed in words": (lambda: initialize(network(), NAME, seed="a"), "seed is a str"),  # type: ignore[arg-type]
    "a seed that is a truth": (lambda: initialize(network(), NAME, seed=True), "seed is a bool"),
    "a seed below 0": (lambda: initialize(network(), NAME, seed=-1), "seed is -1"),
    "no recipe": (lambda: distill(None), "a recipe is named by a NoneType"),  # type: ignore[arg-type]
    "no recipe of a run": (lambda: evaluate_run(3), "a recipe is named by a int"),  # type: ignore[arg-type]
    "nothing to measure": (lambda: evaluate(None), "a network is named by a NoneType"),  # type: ignore[arg-type]
    "an image without a batch": (lambda: network()(torch.rand(3, 32, 32)), r"shape \[3, 32, 32\]"),
    "one for a student": (lambda: network(NAME)(torch.rand(3, 32, 32)), r"shape \[3, 32, 32\]"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_taken_is_said(name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises(UsageError, match=words) as caught:
        call()
    assert caught.value.fix


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_where_no_file_can_be_made_nobody_waits() -> None:
    """Neither a lock nor a file comes about in /proc, and no second try helps."""
    with pytest.raises(WriteError, match=r"/proc/student\.safetensors: could not be written"):
        save(network(NAME), Path("/proc/student.safetensors"))


@pytest.mark.parametrize("name", ["resnet8", NAME])
@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.linspace(0, 255, 2 * 3 * 32 * 32), "go from 0 to 255, as if they are not divided by 255"),
        (torch.linspace(-2.1, 2.6, 2 * 3 * 32 * 32), r"go from -2\.1 to 2\.6, as if they are normalised already"),
    ],
)
def test_images_of_another_range_are_classified_with_a_warning(name: str, images: torch.Tensor, words: str) -> None:
    images = images.view(2, 3, 32, 32)
    with pytest.warns(UserWarning, match=words):
        network(name).eval()(images)


def test_images_in_range_are_looked_at_once(recwarn: pytest.WarningsRecorder) -> None:
    """Noise and attacks leave 0 to 1 by a little, and one batch tells how somebody loads images."""
    model = network().eval()
    model(torch.rand(2, 3, 32, 32) * 1.2 - 0.1)
    model(torch.rand(2, 3, 32, 32) * 255)
    assert not [each for each in recwarn if each.category is UserWarning]


def test_a_recording_counts_its_events(recwarn: pytest.WarningsRecorder) -> None:
    model = build(build_description(NAME, 10, width=4, coding="frames", timesteps=2, in_channels=2), seed=0).eval()
    model(torch.full((1, 2, 2, 32, 32), 9.0))
    assert not [each for each in recwarn if each.category is UserWarning]
