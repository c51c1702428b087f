"""The student with its alignments: what is compared, who is trained, what is kept, and a resume that changes no bit."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import CONFIG, StopAt, same, small_fit, student, weights
from torch import Tensor, nn

from idsnn_cli.architecture import build_description, stage_sizes
from idsnn_cli.errors import CheckpointError, InterruptedRun, NonFiniteError
from idsnn_cli.models import Model, build
from idsnn_cli.training import Objective, fit, load_state
from idsnn_cli.training.losses.attention import attention_distance
from idsnn_cli.training.losses.mse import feature_mse
from idsnn_cli.training.monitor import check_model
from idsnn_cli.training.objective import Learner


def teacher() -> Model:
    return build(build_description("resnet8", 4, width=6, stem="7x7"), seed=2).eval().requires_grad_(False)


def objective(features: str, **options: Any) -> Objective:
    return Objective.of({"alpha": 0.3, "features": features, **options}, teacher=teacher())


def alignments(learner: Learner) -> list[nn.Conv2d]:
    """The 1x1 convolutions behind the stages."""
    return [module for module in learner.losses.modules() if isinstance(module, nn.Conv2d)]


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def stage_outputs(model: Model, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits, and what hooks on the stages see go by."""
    seen: list[Tensor] = []
    hooks = [stage.register_forward_hook(lambda _module, _inputs, maps: seen.append(maps)) for stage in model.stages]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    return logits, seen


@pytest.mark.parametrize("count", [3, 0])
def test_features_are_what_the_stages_give_and_rates_of_a_spiking_network(count: int) -> None:
    for model in (student().eval(), teacher()):
        images = pictures(count)
        logits, seen = stage_outputs(model, images)
        again, features = model.with_features(images)
        assert torch.equal(again, logits)
        steps = model.architecture.timesteps if model.architecture.kind == "spiking" else 1
        assert tuple(tuple(maps.shape[2:]) for maps in features) == stage_sizes(model.architecture, 16, 16)
        for found, maps in zip(features, seen, strict=True):
            by_step = [maps[t * count : (t + 1) * count] for t in range(steps)]
            torch.testing.assert_close(found, torch.stack(by_step).sum(0) / steps)


@pytest.mark.parametrize("features", ["mse", "attention"])
def test_the_term_compares_stage_by_stage(features: str) -> None:
    work, images = objective(features), pictures()
    learner = Learner(student().eval(), work, seed=1)
    lesson = work.teach(images)
    assert lesson is not None
    labels = torch.arange(3)
    logits, loss = learner(images, labels, lesson, 3)
    without = objective("none")(logits, labels, lesson, 3)
    ours, theirs = student().eval().with_features(images)[1], teacher().with_features(images)[1]
    torch.testing.assert_close(logits, student().eval()(images))
    torch.testing.assert_close(lesson.logits_NK, teacher()(images))
    if features == "attention":
        torch.testing.assert_close(loss, without + attention_distance(zip(ours, theirs, strict=True)) / 3)
        assert not list(learner.losses.parameters())
        return
    kernels = [align.weight[:, :, 0, 0] for align in alignments(learner)]
    aligned = [torch.einsum("oi,nihw->nohw", kernel, maps) for kernel, maps in zip(kernels, ours, strict=True)]
    torch.testing.assert_close(loss, without + feature_mse(zip(aligned, theirs, strict=True)) / 3)


def test_the_teacher_runs_once_and_without_a_graph() -> None:
    work = objective("mse")
    assert isinstance(work.teacher, Model)
    runs: list[int] = []
    work.teacher.stem.register_forward_hook(lambda *_: runs.append(1))
    lesson = work.teach(pictures().requires_grad_())
    assert lesson is not None
    assert len(runs) == 1
    assert not any(maps.requires_grad for maps in (lesson.logits_NK, *lesson.maps))
    # Nobody asks for maps that nobody compares.
    plain = objective("none").teach(pictures())
    assert plain is not None
    assert plain.maps == ()
    assert Objective.of({"alpha": 0.0}, teacher=teacher()).teach(pictures()) is None, "nothing reads it"


def test_alignments_are_drawn_by_name_and_are_none_of_the_students() -> None:
    drawn = [Learner(student(), objective("mse"), seed).losses.state_dict() for seed in (1, 1, 2)]
    assert [tuple(value.shape) for value in drawn[0].values()] == [(6, 4, 1, 1), (12, 8, 1, 1), (24, 16, 1, 1)]
    for name, value in drawn[0].items():
        assert torch.equal(value, drawn[1][name])
        assert not torch.equal(value, drawn[2][name])
        assert 0.7 <= float(value.abs().max()) * value.shape[1] ** 0.5 <= 1
    model = student()
    before = weights(model)
    assert same(weights(Learner(model, objective("mse"), 1).model), before)
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize("features", ["mse", "attention"])
def test_a_stopped_training_continues_to_the_same_bits(tmp_path: Path, features: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = CONFIG.model_copy(update={"epochs": 2})

    def work(folder: str, model: Model) -> Any:
        return small_fit(tmp_path / folder, model, config, objective=objective(features))

    straight, resumed, plain = student(), student(), student()
    history = fit(work("a", straight))
    stopping = StopAt(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InterruptedRun):
        fit(replace(work("b", resumed), events=stopping))
    _, stopped = load_state(tmp_path / "b" / "state.pt")
    again = fit(work("b", student_into := student()))
    assert [line["train_loss"] for line in again] == [line["train_loss"] for line in history]
    assert same(weights(student_into), weights(straight))
    parts = [load_state(tmp_path / folder / "state.pt")[1] for folder in ("a", "b")]
    assert same(parts[0]["losses"], parts[1]["losses"])
    assert bool(parts[0]["losses"]) == (features == "mse")
    for name, value in stopped["losses"].items():
        assert not torch.equal(value, parts[0]["losses"][name]), "the alignment was not trained"
    assert not [name for name in parts[0]["model"] if "alignment" in name]
    # The term has a part in the student's weights.
    (tmp_path / "c").mkdir()
    fit(small_fit(tmp_path / "c", plain, config, objective=objective("none")))
    assert not same(weights(plain), weights(straight))


def test_a_process_without_images_sends_zeros() -> None:
    """A shard may be empty; its gradients must still be there to be summed."""
    for features in ("mse", "attention"):
        work = objective(features, loss_on="steps", tet_weight=0.1)
        learner = Learner(student().eval(), work, seed=1)
        lesson = work.teach(pictures(0))
        assert lesson is not None
        _, loss = learner(pictures(0), torch.zeros(0, dtype=torch.long), lesson, 5)
        loss.backward()
        gradients = [parameter.grad for parameter in learner.parameters()]
        assert all(each is not None and not each.any() for each in gradients)


def test_a_state_without_alignments_fits_no_training_that_has_them(tmp_path: Path) -> None:
    fit(small_fit(tmp_path, config=CONFIG.model_copy(update={"epochs": 1})))
    with pytest.raises(CheckpointError, match="another network"):
        fit(small_fit(tmp_path, objective=objective("mse")))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("losses.mse.alignment.1.weight", "alignment.1.weight"),
        ("model.stages.0.0.conv1.weight", "stages.0.0.conv1.weight"),
    ],
)
def test_a_number_that_is_not_finite_is_named_as_everywhere(name: str, shown: str) -> None:
    learner = Learner(student(), objective("mse"), seed=1)
    learner.get_parameter(name).data.view(-1)[0] = torch.nan
    with pytest.raises(NonFiniteError) as caught:
        check_model(learner, "now")
    assert caught.value.message == f"parameter {shown} is not finite now"


def test_alignments_take_the_precision_that_was_asked_for(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "clip_norm": 0.1, "optimizer": "adamw"})
    fit(small_fit(tmp_path, config=config, objective=objective("mse"), precision="fp64"))
    parts = load_state(tmp_path / "state.pt")[1]
    assert {value.dtype for value in parts["losses"].values()} == {torch.float64}
