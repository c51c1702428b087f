"""How kernels are drawn that nothing is taken for (``init.random``): by He, as ever, or as torch and the release do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from invoking import invoke
from tiny_runs import open_run, write_recipe

from idsnn_cli import initialize
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import open_checkpoint, tensors_sha256
from idsnn_cli.models import build, first_state
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.recipe import load_recipe
from idsnn_cli.rules import Rules

# Of the tensors that were drawn before there was a choice.
BEFORE = "ee065398521425cdd4e9687f8033dcb18d721b34d99b6d54b44021b381eea2fa"


def kernels(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if value.dim() == 4}


def test_the_usual_ones_are_what_they_were() -> None:
    description = build_description("spiking-resnet8", 3, width=4)
    assert tensors_sha256(first_state(description, 5).items()) == BEFORE
    assert tensors_sha256(first_state(description, 5, "he").items()) == BEFORE


@pytest.mark.parametrize("name", ["spiking-resnet20", "resnet50"])
def test_torchs_are_uniform_within_one_over_the_root_of_fan_in(name: str) -> None:
    """Bounds and spread are those of ``torch.nn.Conv2d``'s own reset, whose draws are another stream."""
    description = build_description(name, 10, width=16)
    plain = dict(build(description, 0).named_parameters())
    state = first_state(description, 5, "torch")
    values = []
    for key, value in kernels(state).items():
        layer = torch.nn.Conv2d(1, 1, 1)
        layer.weight = torch.nn.Parameter(torch.empty_like(plain[key]))
        layer.bias = None
        layer.reset_parameters()
        bound = 1 / math.sqrt(math.prod(value.shape[1:]))
        assert float(layer.weight.detach().abs().max()) <= bound
        assert float(value.abs().max()) <= bound
        if value.numel() > 2000:
            assert float(value.std()) == pytest.approx(float(layer.weight.detach().std()), rel=0.08)
        values.append(value.flatten() / bound)
    every = torch.cat(values)
    assert float(every.std()) == pytest.approx(1 / math.sqrt(3), rel=0.01)
    assert float((every.abs() < 0.5).double().mean()) == pytest.approx(0.5, abs=0.01)
    others = first_state(description, 5)
    assert all(torch.equal(value, others[key]) for key, value in state.items() if value.dim() != 4)


def test_a_mapping_draws_what_it_does_not_take() -> None:
    source = build(build_description("resnet8", 10, width=4), 1)
    for random in ("he", "torch"):
        rules = Rules(shortcut="random", random=random)
        start = initialize(source, "spiking-resnet8", rules=rules, seed=5)
        drawn = first_state(start.architecture, 5, random)
        kept = {entry.target for entry in start.plan.entries if entry.action == "random"}
        assert "stages.1.0.shortcut.conv.weight" in kept
        for name, value in kernels(start.state).items():
            assert torch.equal(value, drawn[name]) is (name in kept), name
        assert start.plan.to_dict()["rules"].get("random", "he") == random


def test_a_random_start_and_the_baseline_are_drawn_so(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    words = ["init.rule=none", "distill.alpha=0", "teacher.epochs=1", "distill.epochs=0"]
    found = {}
    for random in ("he", "torch"):
        run = open_run(tmp_path / "tiny.yaml", tmp_path / random, *words, f"init.random={random}")
        run_all(run)
        with open_checkpoint(tmp_path / random / "init.safetensors") as file:
            found[random] = file.get("stages.2.0.conv1.weight").clone()
            assert file.metadata is not None
            assert file.metadata["recipe"]["init"]["random"] == random
    bound = 1 / math.sqrt(math.prod(found["torch"].shape[1:]))
    assert float(found["torch"].abs().max()) <= bound < float(found["he"].abs().max())


def test_the_releases_preset_has_torchs_and_the_others_he() -> None:
    assert load_recipe("presets/release", []).recipe.init.random == "torch"
    assert load_recipe("presets/release", ["init.rule=none", "distill.alpha=0.5"]).recipe.init.random == "torch"
    assert load_recipe("presets/paper", []).recipe.init.random == "he"


def test_init_has_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = build(build_description("resnet8", 10, width=4), 1).state_dict()
    torch.save(state, "source.pth")
    words = ("init", "--from", "source.pth", "--arch", "spiking-resnet8", "--shortcut", "random")
    assert invoke(capsys, *words, "-o", "he.safetensors").code == 0
    assert invoke(capsys, *words, "--random", "torch", "-o", "torch.safetensors").code == 0
    values = []
    for name in ("he", "torch"):
        with open_checkpoint(Path(f"{name}.safetensors")) as file:
            values.append(file.get("stages.1.0.shortcut.conv.weight").clone())
    assert not torch.equal(*values)
    refused = invoke(capsys, *words, "--random", "glorot", "-o", "other.safetensors")
    assert refused.code != 0
    assert "torch" in refused.err
