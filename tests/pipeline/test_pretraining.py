"""The student's shape as an ANN, trained before the student is made of it: what it starts from, and what it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from invoking import invoke
from pretraining_runs import RECIPE, opened, trained_teacher
from tiny_runs import (
    Heard,
    contents,
    file_of,
    history,
    init_step,
    lasting,
    metadata_of,
    open_run,
    pretrain_step,
    preview,
    steps_of_run,
    teacher_step,
    weights_of,
    write_recipe,
)

from idsnn_cli import initialize, load
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import MissingInputError, RecipeError, RunConflictError, UsageError
from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.run import run_all, summary
from idsnn_cli.report.runs.side_by_side import describe_runs
from idsnn_cli.rules import Rules

pytestmark = pytest.mark.slow

# No step is taken, so that BatchNorm's statistics alone change.
STILL = ("pretrain.lr=1e-30", "pretrain.momentum=0", "pretrain.weight_decay=0", "pretrain.epochs=1")
STUDENT = build_description("resnet8", 10, width=4, stem="7x7")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes"), RECIPE)


@pytest.fixture(scope="module")
def teacher(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_teacher(recipe, tmp_path_factory.mktemp("teacher"))


def trained(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without what a forward pass changes."""
    return {key: value for key, value in state.items() if "running" not in key and "num_batches" not in key}


@pytest.mark.parametrize(
    "rules", [Rules(), Rules(blocks="last", channels="uniform", multiplicity="divide", head="copy")]
)
def test_it_starts_from_the_sources_weights_by_the_rules_about_shapes(
    recipe: Path, teacher: Path, tmp_path: Path, rules: Rules
) -> None:
    chosen = ("blocks", "channels", "multiplicity", "head")
    words = [f"init.{key}={getattr(rules, key)}" for key in chosen]
    session = opened(recipe, teacher, tmp_path, *STILL, *words, "init.rescale=threshold", "init.reestimate=1")
    pretrain_step(session)
    made = load(file_of(session, "pretrain"))
    assert made.architecture == STUDENT
    wanted = trained(initialize(teacher, STUDENT, rules=rules, seed=_seed()).state)
    found = trained(made.state_dict())
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[key], wanted[key], rtol=0, atol=1e-12) for key in wanted)
    described = metadata_of(file_of(session, "pretrain"))
    assert described["kind"] == "pretrain"
    assert described["mapping"]["rules"] == rules.to_dict()


def _seed() -> int:
    from idsnn_cli.seeding import derive_seed

    return derive_seed(0, "init", "weights")


def test_training_it_is_a_step_of_sgd_on_the_distilled_loss(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    """One batch of all images: the weights after it are worked out here."""
    plain = ("pretrain.epochs=1", "pretrain.batch_size=80", "pretrain.momentum=0", "pretrain.weight_decay=0")
    words = (*plain, "pretrain.lr=0.1", "pretrain.schedule=constant", "pretrain.alpha=0.7", "pretrain.temperature=2")
    session = opened(recipe, teacher, tmp_path, *words, "data.augment.crop=0")
    pretrain_step(session)
    start = initialize(teacher, STUDENT, seed=_seed())
    network, guide = start.module().train(), load(teacher).eval()
    images = session.workspace.data.train.images.float() / 255
    logits = network(images)
    with torch.no_grad():
        soft = torch.softmax(guide(images) / 2, dim=-1)
    kl = (soft * (soft.log() - torch.log_softmax(logits / 2, dim=-1))).sum(-1).mean()
    loss = torch.nn.functional.cross_entropy(logits, session.workspace.data.train.labels) + 0.7 * 4 * kl
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs lack it
    made = load(file_of(session, "pretrain")).state_dict()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(made[name], parameter.detach() - 0.1 * parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_student_is_a_copy_of_it_with_its_linear_layer(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    session = opened(recipe, teacher, tmp_path, "init.blocks=last", "init.channels=uniform")
    pretrain_step(session)
    init_step(session)
    found = [weights_of(file_of(session, step)) for step in ("pretrain", "init")]
    first, last = ({name: value for name, value in each.items() if "num_batches" not in name} for each in found)
    assert first == last
    assert metadata_of(file_of(session, "init"))["architecture"]["kind"] == "spiking"


def test_what_fits_weights_to_spikes_comes_after_it(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    """Threshold balancing and re-estimation change what the pre-trained network has, and by their own rule."""
    plain = opened(recipe, teacher, tmp_path / "plain")
    words = ("init.rescale=threshold", "init.percentile=99", "init.reestimate=1")
    scaled = opened(recipe, teacher, tmp_path / "scaled", *words)
    for session in (plain, scaled):
        pretrain_step(session)
        init_step(session)
    assert weights_of(file_of(plain, "pretrain")) == weights_of(file_of(scaled, "pretrain"))
    found = weights_of(file_of(scaled, "init"))
    changed = {
        name.rpartition(".")[2] for name, value in weights_of(file_of(plain, "init")).items() if found[name] != value
    }
    assert {"weight", "bias", "running_mean", "running_var"} <= changed
    mapped = metadata_of(file_of(scaled, "init"))["mapping"]
    assert mapped["rules"] == Rules(head="copy", rescale="threshold", percentile=99).to_dict()


def test_a_run_has_it_between_teacher_and_init_and_measures_it(recipe: Path, tmp_path: Path) -> None:
    session = open_run(recipe, tmp_path / "whole")
    results = run_all(session)
    assert [result.step for result in results] == ["teacher", "pretrain", "init", "distill", "eval"]
    assert steps_of_run(session) == [result.step for result in results]
    rows = {row.name: row.to_dict() for row in summary(results)}
    assert list(rows) == ["teacher", "pretrain", "student"]
    assert (rows["pretrain"]["timesteps"], rows["pretrain"]["epochs"]) == (1, 2)
    assert rows["pretrain"]["parameters"] == rows["student"]["parameters"]
    assert [record["epoch"] for record in history(session.path, "pretrain")] == [1, 2]
    before = contents(session.path)
    assert {result.status for result in run_all(open_run(recipe, session.path))} == {"unchanged"}
    assert contents(session.path) == before


def test_its_steps_by_hand_are_those_of_a_run(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_all(open_run(recipe, tmp_path / "whole"))
    steps = tmp_path / "steps"
    for command in ("teacher", "pretrain", "init", "distill"):
        outcome = invoke(capsys, command, recipe, "--run-dir", steps)
        assert outcome.code == 0, outcome.err
    assert lasting(steps) == lasting(tmp_path / "whole")


def test_what_makes_the_student_spiking_leaves_it_as_it_is(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    pretrain_step(opened(recipe, teacher, tmp_path))
    later = (
        "student.v_threshold=1",
        "student.timesteps=3",
        "init.reestimate=2",
        "distill.lr=0.2",
        "pretrain.keep=best",
    )
    assert pretrain_step(opened(recipe, teacher, tmp_path, *later)).status == "unchanged"
    for word in ("init.blocks=last", "student.width=8", "pretrain.alpha=0", "pretrain.epochs=3"):
        with pytest.raises(RunConflictError, match=word.partition("=")[0]):
            pretrain_step(opened(recipe, teacher, tmp_path, word))
    # A schedule that does not look at the end may go on.
    constant = ("pretrain.schedule=constant",)
    pretrain_step(opened(recipe, teacher, tmp_path / "open", *constant))
    grown = pretrain_step(opened(recipe, teacher, tmp_path / "open", *constant, "pretrain.epochs=3"))
    assert (grown.status, grown.figures["epochs"]) == ("done", 3)


@pytest.mark.parametrize(
    "word", ["pretrain.alpha=0", "pretrain.temperature=1", "pretrain.lr=0.01", "pretrain.label_smoothing=0.1"]
)
def test_each_of_its_keys_changes_the_weights(recipe: Path, teacher: Path, tmp_path: Path, word: str) -> None:
    plain, other = opened(recipe, teacher, tmp_path / "plain"), opened(recipe, teacher, tmp_path / "other", word)
    for session in (plain, other):
        pretrain_step(session)
    assert weights_of(file_of(plain, "pretrain")) != weights_of(file_of(other, "pretrain"))


def test_a_replaced_one_makes_the_student_anew(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    heard = Heard()
    session = opened(recipe, teacher, tmp_path, events=heard)
    run_all(session)
    before = file_of(session, "init").read_bytes()
    pretrain_step(opened(recipe, teacher, tmp_path, "pretrain.lr=0.01", force=True))
    run_all(opened(recipe, teacher, tmp_path, "pretrain.lr=0.01", events=heard))
    assert file_of(session, "init").read_bytes() != before
    assert any(said.startswith("init: its input (source) was replaced") for said in heard.said)


def test_the_source_may_be_another_network_than_the_teacher(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    other = open_run(recipe, tmp_path / "other", "teacher.arch=resnet8", "teacher.width=4")
    teacher_step(other)
    session = opened(recipe, teacher, tmp_path / "run", *STILL, f"init.source={file_of(other, 'teacher')}")
    pretrain_step(session)
    wanted = trained(initialize(file_of(other, "teacher"), STUDENT, seed=_seed()).state)
    found = trained(load(file_of(session, "pretrain")).state_dict())
    assert all(torch.allclose(found[key], wanted[key], rtol=0, atol=1e-12) for key in wanted)
    inputs = metadata_of(file_of(session, "pretrain"))["provenance"]["inputs"]
    assert inputs["source"] != inputs["teacher"]


def test_without_a_teacher_in_any_loss_a_source_is_enough(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    words = (f"init.source={teacher}", "pretrain.alpha=0", "distill.alpha=0")
    session = open_run(recipe, tmp_path, *words)
    assert [result.step for result in run_all(session)] == ["pretrain", "init", "distill", "eval"]


def test_what_it_cost_is_the_students(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    session = opened(recipe, teacher, tmp_path, "distill.epochs=2")
    run_all(session)
    document = describe_runs(gather([tmp_path]), top1=0.0)
    (network,) = document["networks"]

    def convolutions(widths: tuple[int, ...], pixels: tuple[int, ...], depths: int) -> int:
        """A 7x7 stem, basic blocks of 3x3 kernels, projections where the width changes, the linear layer."""
        total, entry = 49 * 3 * widths[0] * pixels[0] * 4, widths[0]
        for width, size in zip(widths, pixels, strict=True):
            total += 9 * entry * width * size + 9 * width * width * size * (2 * depths - 1)
            total += entry * width * size if entry != width else 0
            entry = width
        return total + 10 * widths[-1]

    height, width = session.workspace.data.image_size
    sizes = tuple(height * width // 16 // 4**stage for stage in range(3))
    teaching = convolutions((6, 12, 24), sizes, 2)
    own = convolutions((4, 8, 16), sizes, 1)
    before = network["pretraining"]
    assert (before["epochs"], before["images"]) == (2, 160)
    assert before["macs"] == 160 * (3 * own + teaching)
    first, second = network["curve"]
    assert first["epoch"] == 1
    assert first["images"] == 160 + 80
    # Both epochs of the student cost alike, and what came before them is counted once.
    assert second["macs"] - first["macs"] == first["macs"] - before["macs"]
    assert network["reach"]["macs"] == first["macs"]
    assert first["seconds"] == pytest.approx(
        before["seconds"] + gather([tmp_path])[0].trainings["student"].history[0]["seconds"], abs=2e-3
    )
    assert any("as an ANN first" in note for note in document["notes"])
    # Where its epochs are not told any more, neither is what the student took.
    (tmp_path / "pretrain" / "metrics.jsonl").unlink()
    (untold,) = describe_runs(gather([tmp_path]), top1=0.0)["networks"]
    assert set(untold["pretraining"].values()) == {None}
    assert [untold["curve"][-1][key] for key in ("images", "macs", "seconds")] == [None] * 3
    assert untold["reach"]["seconds_with_teacher"] is None
    plain = open_run(recipe, tmp_path / "plain", f"teacher.checkpoint={teacher}", "pretrain.epochs=0")
    run_all(plain)
    (network,) = describe_runs(gather([tmp_path / "plain"]))["networks"]
    assert network["pretraining"] is None
    assert network["curve"][0]["macs"] == first["macs"] - before["macs"]


def test_a_preview_knows_both_networks_and_counts_the_first_mapping(recipe: Path, tmp_path: Path) -> None:
    session = open_run(recipe, tmp_path)
    plan = preview(session, steps_of_run(session), {})
    assert list(plan["networks"]) == ["teacher", "pretrain", "student"]
    run_all(session)
    mapping = metadata_of(file_of(session, "pretrain"))["mapping"]
    assert (
        plan["mapping"]["interpolated"]
        == initialize(file_of(session, "teacher"), STUDENT).plan.counts()["interpolated"]
    )
    assert mapping["target"]["kind"] == "ann"
    after = preview(session, ["init"], {})
    assert after["mapping"]["random"] == after["mapping"]["interpolated"] == 0


def test_sew_blocks_poisson_coding_and_amplitudes_have_the_same_shape(
    recipe: Path, teacher: Path, tmp_path: Path
) -> None:
    for words in (["student.block=sew"], ["student.coding=poisson"], ["student.amplitude=channel"]):
        session = opened(recipe, teacher, tmp_path / words[0], *words)
        run_all(session)
        assert load(file_of(session, "pretrain")).architecture == STUDENT
        described = load(file_of(session, "init")).architecture
        assert described.changed(kind="ann").depths == STUDENT.depths


def test_the_ann_of_ms_blocks_adds_what_no_activation_has_seen(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    """As the student will; the blocks of a student are then part of what the ANN was made by."""
    session = opened(recipe, teacher, tmp_path, "student.block=ms")
    pretrain_step(session)
    assert load(file_of(session, "pretrain")).architecture == STUDENT.changed(membranes=True)
    with pytest.raises(RunConflictError, match=r"student\.block"):
        pretrain_step(opened(recipe, teacher, tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init.rule=none"], "init.rule is none"),
        (["init.convert=learnt-thresholds", "teacher.activation=qcfs"], "learns no thresholds"),
        (["pretrain.warmup_epochs=2"], "leaves nothing of 2 epochs"),
    ],
)
def test_recipes_that_cannot_be(recipe: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_run(recipe, tmp_path, *words)


def test_what_is_missing_is_named_with_the_way_to_it(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pretrain\.epochs is 0"):
        pretrain_step(open_run(recipe, tmp_path, "pretrain.epochs=0"))
    with pytest.raises(MissingInputError) as caught:
        init_step(open_run(recipe, tmp_path))
    assert "idsnn pretrain" in str(caught.value.fix)
    with pytest.raises(MissingInputError) as caught:
        pretrain_step(open_run(recipe, tmp_path, f"init.source={teacher}"))
    assert "pretrain.alpha=0" in str(caught.value.fix)
    with pytest.raises(MissingInputError) as caught:
        pretrain_step(open_run(recipe, tmp_path))
    assert "idsnn teacher" in str(caught.value.fix)


def test_another_source_on_the_command_line_takes_its_place_and_is_told(
    recipe: Path, teacher: Path, tmp_path: Path
) -> None:
    heard = Heard()
    init_step(opened(recipe, teacher, tmp_path, events=heard), source=teacher)
    assert heard.said[-1] == f"{tmp_path / 'pretrain.safetensors'} is not read: {teacher} is named instead"
    mapping = metadata_of(tmp_path / "init.safetensors")["mapping"]
    assert mapping["rules"] == Rules().to_dict()


def test_init_on_its_own_refuses_its_keys(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--from", teacher, "--arch", "spiking-resnet8", "pretrain.epochs=2", "-o", tmp_path / "o.safetensors")
    outcome = invoke(capsys, "init", *words)
    assert outcome.code == 2
    assert "pretrain.epochs=2 does not go with --from" in outcome.err
