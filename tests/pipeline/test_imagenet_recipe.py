"""The recipe for ImageNet on a thousand made-up photographs, with networks of a size for a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision
from made_photographs import write_photographs

from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.data.splits import Split
from idsnn_cli.data.streamed import StreamedImages
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import step
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe

pytestmark = pytest.mark.slow

SMALL = (
    *("data.image_size=32", "data.resize=36", "student.width=8", "init.reestimate=2", "runtime.threads=1"),
    *("distill.epochs=1", "distill.warmup_epochs=0", "distill.batch_size=40", "runtime.device=cpu"),
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 JPEGs of 256 to 500 by 256 to 400 pixels, ten classes, as ImageNet's folders are."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder / "train", count=800, classes=10, seed=0)
    write_photographs(folder / "val", count=200, classes=10, seed=1)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet of torchvision's, one block a stage, as its state dict."""
    torch.manual_seed(0)
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)
    path = tmp_path_factory.mktemp("teacher") / "resnet10.pth"
    torch.save(network.state_dict(), path)
    return path


def words(photographs: Path, teacher: Path, *more: str) -> list[str]:
    named = [f"data.path={photographs}", f"teacher.checkpoint={teacher}", "teacher.normalise=imagenet"]
    return [*named, *SMALL, *more]


def idsnn(*given: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "idsnn_cli", "run", "imagenet/spiking-resnet18", *map(str, given)]
    # In a group of its own, so that a signal reaches its workers as one from a terminal or a scheduler does.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def test_the_recipe_streams_crops_and_measures_as_torchvision_s_reference(photographs: Path, teacher: Path) -> None:
    recipe = load_recipe("imagenet/spiking-resnet18", words(photographs, teacher)).recipe
    data = Workspace(recipe, "imagenet").data
    assert (len(data.train), len(data.test), data.num_classes) == (800, 200, 10)
    for split in (data.train, data.test):
        assert isinstance(split, Split)
        assert isinstance(split.stored, StreamedImages)
    assert data.mean == (0.485, 0.456, 0.406)
    whole = load_recipe("imagenet/spiking-resnet18").recipe.data
    assert (whole.image_size, whole.resize, whole.augment.scale) == (224, 256, (0.08, 1.0))
    assert (whole.augment.ratio, whole.augment.crop, whole.augment.flip) == ((0.75, 1.3333), 0, True)


def test_a_run_that_is_stopped_within_an_epoch_ends_with_the_bytes_of_one_that_was_not(
    photographs: Path, teacher: Path, tmp_path: Path
) -> None:
    given = words(photographs, teacher)
    alone = idsnn(*given, "data.workers=0", "--run-dir", tmp_path / "alone")
    _, told = alone.communicate(timeout=400)
    assert alone.returncode == 0, told
    document = json.loads((tmp_path / "alone" / "eval.json").read_text())
    assert {row["name"] for row in document["results"]} == {"teacher", "student"}
    with open_checkpoint(tmp_path / "alone" / "student.safetensors") as student:
        assert student.metadata is not None
        assert student.metadata["recipe"]["data"]["augment"]["scale"] == [0.08, 1.0]

    command = [*given, "data.workers=2", "--run-dir", str(tmp_path / "stopped")]
    stopped = idsnn(*command)
    assert stopped.stderr is not None
    begun = time.monotonic()
    while not (tmp_path / "stopped" / "distill" / "metrics.jsonl").parent.exists():
        assert time.monotonic() - begun < 300
        assert stopped.poll() is None, stopped.stderr.read()
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(stopped.pid, signal.SIGTERM)
    _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 143, told
    assert "Run the same command again" in told
    again = idsnn(*command)
    _, told = again.communicate(timeout=400)
    assert again.returncode == 0, told
    for name in ("student", "init", "teacher"):
        ours, theirs = (tmp_path / each / f"{name}.safetensors" for each in ("stopped", "alone"))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_a_run_directory_says_nothing_of_workers(photographs: Path, teacher: Path, tmp_path: Path) -> None:
    records = []
    for number in (0, 2):
        loaded = load_recipe("imagenet/spiking-resnet18", words(photographs, teacher, f"data.workers={number}"))
        run = RunDirectory(tmp_path, Workspace(loaded.recipe, loaded.name))
        records.append(step("distill").settings(run.workspace))
    assert records[0] == records[1]
    assert "workers" not in records[0]["data"]
