"""The rule book: a rule is one function in one file, and everything else follows from what it asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sources import ann, spiking, values

from idsnn_cli import rulebook
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import Rules, initialize
from idsnn_cli.rulebook import channel_rule, conversion, depth_rule
from idsnn_cli.rules import choices

ADDED = '''
"""One more rule of every kind."""

from idsnn_cli.rulebook import channel_rule, conversion, depth_rule, kernel_rule, rescale_rule


@depth_rule("backwards", "the last one first")
def backwards(block, source_depth):
    return max(source_depth - 1 - block, 0)


@channel_rule("tail", "the last ones")
def tail(have, count):
    return [(have - count + c) % have for c in range(count)]


@channel_rule("first-alike", "the first, and all that is like it", hint="looks at images")
def alike(have, count, correlations):
    return range(count) if correlations is None else [tuple(range(have - count + 1)), *range(have - count + 1, have)]


@kernel_rule("corner", "the upper left taps", hint="from the corner")
def corner(weight, to):
    return weight[:, :, :to, :to] if to < weight.shape[-1] else weight.repeat(1, 1, to, to)[:, : weight.shape[1], :to]


@rescale_rule("half", "every kernel times 1/2")
def half(planner):
    return {f"{conv.name}.weight": 0.5 for conv, _ in planner.taken}


@conversion("largest", "lambda is 2 everywhere")
def largest(twin, images):
    return dict.fromkeys(twin.architecture.streams().sizes.keys() - {"input"}, 2.0)
'''
USED = """
import sys
import idsnn_cli.initializer.rules as home
home.__path__.append(sys.argv[1])
from typer.testing import CliRunner
from idsnn_cli.cli.main import app

shown = CliRunner().invoke(app, ["init", "--help"], env={"COLUMNS": "200"}).output
for name in ("backwards", "tail", "first-alike (looks at images)", "corner", "half", "largest"):
    assert name in shown, shown

from idsnn_cli.recipe import load_recipe
from idsnn_cli.errors import RecipeError
words = ["init.blocks=backwards", "init.channels=first-alike", "init.kernels=corner", "init.convert=largest"]
init = load_recipe("cifar10-thin", ["init.reestimate=0", *words]).recipe.init
assert init.looks_at_images and init.rules().always_looks and init.rules().may_merge
try:
    load_recipe("cifar10-thin", ["init.channels=tial"])
except RecipeError as error:
    assert "tail" in str(error), error
else:
    raise AssertionError("a rule that there is not was taken")
assert "torch" not in sys.modules

done = CliRunner().invoke(app, ["init", "--from", sys.argv[2], "--arch", "spiking-resnet8", "--channels", "tail",
    "--blocks", "backwards", "--rescale", "half", "student.width=8", "-o", sys.argv[3]])
assert done.exit_code == 0, done.output
asked = CliRunner().invoke(app, ["init", "--from", sys.argv[2], "--arch", "spiking-resnet8", "--channels",
    "first-alike", "student.width=8", "-o", sys.argv[3] + ".2"])
assert "training images are needed by channels: first-alike" in str(asked.exception), asked.output
asked = CliRunner().invoke(app, ["init", "--from", sys.argv[2], "--arch", "spiking-resnet8", "--convert", "largest",
    "student.width=8", "-o", sys.argv[3] + ".3"])
assert "training images are needed by convert: largest" in str(asked.exception), asked.output
"""


@pytest.mark.slow
def test_a_file_with_a_rule_is_all_that_it_takes(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from idsnn_cli.architecture import build_description
    from idsnn_cli.checkpoint import write_checkpoint
    from idsnn_cli.models import build

    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "more.py").write_text(ADDED, encoding="utf-8")
    source = build(build_description("resnet14", 10, stem="3x3"), seed=3)
    write_checkpoint(
        tmp_path / "source.safetensors", source.state_dict(), {"architecture": source.architecture.to_dict()}
    )
    paths = [str(tmp_path / name) for name in ("rules", "source.safetensors", "start.safetensors")]
    done = subprocess.run([sys.executable, "-c", USED, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, taken = load_file(paths[2]), source.state_dict()["stages.0.1.conv0.weight"]
    # Block 1 of 1 takes the last of two, but a stage's first block keeps its place where widths change.
    assert torch.equal(found["stages.0.0.conv0.weight"], 0.5 * taken[8:, 8:])


def test_what_a_rule_may_not_ask_for_is_said_at_once() -> None:
    with pytest.raises(TypeError, match="asks for weather, but there is correlations, count, generator, have, scores"):

        @channel_rule("rainy", "none")
        def rainy(have: int, weather: str) -> list[int]:
            return [have]

    assert "rainy" not in choices("channels")


@pytest.mark.parametrize("name", ["learnt-thresholds", "none"])
def test_one_name_is_one_rule(name: str) -> None:
    with pytest.raises(TypeError, match=f"convert: {name} in {__name__} stands for th.*, too"):
        conversion(name, "again")(lambda learnt: learnt)
    # Whose name it is is said, so that its author finds it.
    with pytest.raises(TypeError, match=r"stands for the rule of idsnn_cli\.initializer\.rules\.depth, too"):
        depth_rule("first", "again")(lambda block: block)


def test_names_stand_in_their_order_and_an_unknown_one_is_refused() -> None:
    assert rulebook.names("blocks") == ("first", "proportional", "last", "ends", "greedy")
    assert rulebook.names("convert")[0] == "none"
    with pytest.raises(UsageError, match=r"'lop' is no rule of channels\. Did you mean 'loop'"):
        rulebook.rule("channels", "lop")


def test_what_looks_follows_from_what_is_asked_for() -> None:
    looking = {
        str(rule): (rule.always_looks, rule.merges, rule.of_activations)
        for kind in ("blocks", "channels", "kernels", "rescale", "convert")
        for rule in rulebook.rules(kind)
        if rule.always_looks or rule.merges or rule.of_activations
    }
    assert looking == {
        "blocks: greedy": (True, False, True),
        "channels: merge": (False, True, False),
        "rescale: threshold": (True, False, True),
        "convert: weight-normalisation": (True, False, True),
        "convert: threshold-balancing": (True, False, True),
        "convert: learnt-thresholds": (False, False, True),
    }
    assert Rules(convert="learnt-thresholds").reads_learnt
    assert Rules(rescale="variance").of_shape().rescale == "variance"
    assert Rules(rescale="threshold").of_shape().rescale == "none"


def test_variance_is_a_factor_of_what_is_taken() -> None:
    source, target = ann(8, 4), spiking(8, 8)
    state = values(source)
    one = initialize(state, target, rules=Rules(rescale="variance")).state["stages.0.0.conv0.weight"]
    other = initialize(state, target).state["stages.0.0.conv0.weight"]
    torch.testing.assert_close(one, other * (4 / 8) ** 0.5)
