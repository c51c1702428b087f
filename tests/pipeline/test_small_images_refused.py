"""Images too small for a network of the run stop the command before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from invoking import invoke, save_network

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.pipeline.requirements import check_sizes
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe

Capture = pytest.CaptureFixture[str]

# A teacher that would train well on them, and a student that halves them five times.
RECIPE = """
data: {dataset: npz, path: small.npz}
teacher: {arch: resnet8, width: 2, epochs: 1}
student: {arch: spiking-vgg11, width: 2, timesteps: 2}
init: {rule: none}
distill: {epochs: 1}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{name}": values
        for split, count in (("train", 40), ("test", 20))
        for name, values in (
            ("images", rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)),
            ("labels", np.arange(count, dtype=np.int64) % 4),
        )
    }
    np.savez("small.npz", **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for its own
    Path("small.yaml").write_text(RECIPE)


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
def test_a_run_is_refused_before_its_first_step(capsys: Capture, dry: tuple[str, ...]) -> None:
    refused = invoke(capsys, "run", "./small.yaml", "--run-dir", "out", *dry)
    assert refused.code == 2
    assert "images of 16x16 pixels are too small for a spiking-vgg11" in " ".join(refused.err.split())
    assert "whose layers need sides of 32 or more" in " ".join(refused.err.split())
    assert not list(Path().rglob("*.safetensors"))


def test_the_same_images_enlarged_are_taken(capsys: Capture) -> None:
    taken = invoke(capsys, "run", "./small.yaml", "--run-dir", "out", "--dry-run", "data.image_size=32")
    assert taken.code == 0, taken.err


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
def test_measuring_is_refused_as_well(capsys: Capture, dry: tuple[str, ...]) -> None:
    save_network(Path("vgg.safetensors"), "student", build_description("spiking-vgg11", 4, width=2, timesteps=2))
    refused = invoke(capsys, "eval", "--checkpoint", "vgg.safetensors", "--data", "npz:small.npz", *dry)
    assert refused.code == 2
    assert "images of 16x16 pixels are too small for a spiking-vgg11" in " ".join(refused.err.split())


def test_a_source_sees_no_images_and_may_need_larger_ones() -> None:
    loaded = load_recipe("./small.yaml", [])
    workspace = Workspace(loaded.recipe, loaded.name, loaded.text)
    vgg = build_description("vgg11", 4, width=2)
    check_sizes(workspace, {"source": vgg})
    with pytest.raises(UsageError, match="too small for a vgg11"):
        check_sizes(workspace, {"source": vgg, "teacher": vgg})
