"""Words that belong to other tools are answered with what they are called here."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoking import invoke

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("word", ["train", "fit", "Train"])
def test_train_names_the_commands_that_train(capsys: Capture, word: str) -> None:
    for json in ([], ["--json"]):
        refused = invoke(capsys, word, "quickstart", *json)
        assert refused.code == 2
        said = refused.err if not json else refused.document["error"]["fix"]
        assert all(name in said for name in ("`idsnn teacher`", "`pretrain`", "`distill`", "`idsnn run`"))


def test_what_is_misspelt_is_still_typers_to_answer(capsys: Capture) -> None:
    refused = invoke(capsys, "distil", "quickstart", "--json")
    assert refused.code == 2
    assert "Did you mean 'distill'" in refused.document["error"]["message"]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["run", "quickstart", "--lr", "0.1"], ["teacher.lr=VALUE", "pretrain.lr=VALUE", "distill.lr=VALUE"]),
        (["teacher", "quickstart", "--learning-rate=0.1"], ["teacher.lr=VALUE"]),
        (["distill", "quickstart", "--batch-size", "8"], ["distill.batch_size=VALUE"]),
        (["run", "quickstart", "--T", "8"], ["student.timesteps=VALUE"]),
        (["eval", "--seed", "1"], ["seed=VALUE"]),
    ],
)
def test_an_option_that_is_a_key_of_recipes_says_so(capsys: Capture, words: list[str], keys: list[str]) -> None:
    refused = invoke(capsys, *words)
    assert refused.code == 2
    option = next(word for word in words if word.startswith("--")).partition("=")[0]
    assert f"there is no option {option}\n" in refused.err
    assert all(key in refused.err for key in keys)


def test_an_option_that_is_nothing_here_is_typers_to_answer(capsys: Capture) -> None:
    refused = invoke(capsys, "run", "quickstart", "--frobnicate", "1", "--json")
    assert refused.code == 2
    assert "No such option" in refused.document["error"]["message"]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("student.T=8", "student.timesteps"),
        ("student.time_steps=8", "student.timesteps"),
        ("distill.T=4", "distill.temperature"),
        ("teacher.learning_rate=1", "teacher.lr"),
        ("student.vth=1", "student.v_threshold"),
        ("T=8", "student.timesteps"),
    ],
)
def test_a_key_of_another_name_is_named(capsys: Capture, override: str, key: str) -> None:
    refused = invoke(capsys, "run", "quickstart", override, "--dry-run")
    assert refused.code == 2
    assert f"Did you mean '{key}'" in refused.err


def test_an_ending_of_no_format_lists_the_formats(capsys: Capture, tmp_path: Path) -> None:
    refused = invoke(capsys, "export", tmp_path / "student.safetensors", "-o", tmp_path / "x.onnx_")
    assert refused.code == 2
    assert "x.onnx_ ends in .onnx_, which stands for no format" in refused.err
    assert "fold (.safetensors or no ending): a checkpoint of binary spikes" in refused.err
