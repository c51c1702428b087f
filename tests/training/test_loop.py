"""The loop: golden losses, a stop and a resume that change no bit, guards, and options that do something."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import CONFIG, StopAt, same, small_fit, student, weights

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import CheckpointError, InterruptedRun, NonFiniteError
from idsnn_cli.evaluation.accuracy import Evaluation
from idsnn_cli.models import Model, build
from idsnn_cli.training import BatchDone, Events, fit, load_state

# Running means of the loss over the three steps of each epoch, at the seeds of small_fits: a change of the fast path
# that should change nothing leaves them as they are. Equal here with AVX2 and AVX-512, with one thread and two.
GOLDEN = (
    [1.322257, 1.359066, 1.379225],
    [1.398914, 1.354785, 1.358058],
    [1.372822, 1.353448, 1.360187],
)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Losses(Events):
    """The running mean of the loss after every batch."""

    def __init__(self) -> None:
        self.seen: list[BatchDone] = []

    def batch_done(self, event: BatchDone) -> None:
        self.seen.append(event)


def test_golden_losses(tmp_path: Path) -> None:
    heard = Losses()
    fit(small_fit(tmp_path, events=heard))
    per_epoch = [[e.loss for e in heard.seen if e.epoch == epoch] for epoch in range(3)]
    for seen, golden in zip(per_epoch, GOLDEN, strict=True):
        assert seen == pytest.approx(golden, abs=1e-3)


@pytest.mark.parametrize("coding", ["direct", "poisson"])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])
def test_a_stopped_training_continues_to_the_same_bits(tmp_path: Path, stop_after: int, coding: str) -> None:
    straight, resumed = student(coding), student(coding)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    history = fit(small_fit(tmp_path / "a", straight))
    interrupt = StopAt(stop_after, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InterruptedRun) as stopped:
        fit(small_fit(tmp_path / "b", resumed, events=interrupt))
    assert stopped.value.exit_code == 143
    fresh, heard = student(coding), Heard()
    continued = fit(small_fit(tmp_path / "b", fresh, events=heard))
    # Not from an earlier state, which would end with the same bits.
    assert heard.said == []
    assert heard.started == [(stop_after - 1) // 3]
    assert same(weights(straight), weights(fresh))
    untimed = [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in history]
    again = [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in continued]
    assert untimed == again


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_signal_during_the_measurement_of_an_epoch_is_not_lost(tmp_path: Path, epochs: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = CONFIG.model_copy(update={"epochs": epochs})
    straight, continued = student(), student()
    fit(small_fit(tmp_path / "a", straight, config))
    work = small_fit(tmp_path / "b", student(), config)
    measure = work.measure

    def interrupted(network: Model) -> Evaluation:
        os.kill(os.getpid(), signal.SIGINT)
        return measure(network)

    with pytest.raises(InterruptedRun, match=f"after epoch 1 of {epochs}; its state is saved") as stopped:
        fit(replace(work, measure=interrupted))
    assert stopped.value.exit_code == 130
    fit(small_fit(tmp_path / "b", continued, config))
    assert same(weights(straight), weights(continued))


def test_state_is_saved_in_the_middle_of_an_epoch_too(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def look() -> None:
        progress, _ = load_state(tmp_path / "state.pt")
        seen.append((progress.epoch, progress.batch))

    # At the fifth batch the state of the fourth must be on disk: epoch 1, batch 1.
    fit(small_fit(tmp_path, save_every_minutes=1e-9, events=StopAt(5, look)))
    assert seen == [(1, 1)]


def test_more_epochs_go_on_where_fewer_ended(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight, grown = student(), student()
    fit(small_fit(tmp_path / "a", straight))
    fit(small_fit(tmp_path / "b", grown, CONFIG.model_copy(update={"epochs": 2})))
    continued = student()
    history = fit(small_fit(tmp_path / "b", continued))
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert same(weights(straight), weights(continued))


@pytest.mark.parametrize(
    ("poison", "named"),
    [
        ("stages.1.0.conv1.weight", "parameter stages.1.0.conv1.weight"),
        ("stages.0.0.norm0.running_var", "BatchNorm statistic stages.0.0.norm0.running_var"),
        ("head.bias", "the loss is not finite (and parameter head.bias is not)"),
    ],
)
def test_a_nan_stops_with_the_step_and_the_tensor(tmp_path: Path, poison: str, named: str) -> None:
    model = student()

    def spoil() -> None:
        with torch.no_grad():
            model.state_dict()[poison][0] = float("nan")

    good: list[int] = []
    work = small_fit(tmp_path, model, events=StopAt(4, spoil), on_epoch=lambda history: good.append(len(history)))
    with pytest.raises(NonFiniteError) as found:
        fit(work)
    assert named in found.value.message
    assert "epoch 2" in found.value.message
    # The state of the last good epoch is still there, and whole.
    progress, parts = load_state(work.state_path)
    assert (progress.epoch, good) == (1, [1])
    assert all(torch.isfinite(value).all() for value in parts["model"].values() if value.is_floating_point())


def test_a_gradient_that_is_not_finite_is_named(tmp_path: Path) -> None:
    model = student()
    model.get_parameter("stages.0.0.conv0.weight").register_hook(lambda grad: grad * float("inf"))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with pytest.raises(NonFiniteError, match=r"gradient of stages\.0\.0\.conv0\.weight is not finite at step 1 "):
        fit(small_fit(tmp_path, model))


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = {"momentum": 0.0, "weight_decay": 0.0, "epochs": 1, "schedule": "constant", "step_every": None}
    moved = []
    for folder, clip in (("a", None), ("b", 1e-3)):
        model = student()
        before = [p.detach().clone() for p in model.parameters()]
        fit(small_fit(tmp_path / folder, model, CONFIG.model_copy(update=plain | {"clip_norm": clip})))
        after = [p.detach() for p in model.parameters()]
        moved.append(float(torch.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(after, before, strict=True)))))  # type: ignore[arg-type]  # a sum of tensors
    # Three steps of at most lr * clip each; the unclipped ones are far longer.
    assert moved[1] <= 3 * 0.05 * 1e-3 * 1.01
    assert moved[0] > 10 * moved[1]


def test_the_best_epoch_is_told_once_and_ties_keep_the_first(tmp_path: Path) -> None:
    told: list[int] = []
    work = small_fit(tmp_path, on_best=lambda record: told.append(record["epoch"]))
    history = fit(work)
    figures = [record["test_top1"] for record in history]
    rising = [i + 1 for i, value in enumerate(figures) if value > max(figures[:i], default=-1.0)]
    assert told == rising


def test_evaluation_can_be_rarer_but_the_last_epoch_is_measured(tmp_path: Path) -> None:
    history = fit(small_fit(tmp_path, config=CONFIG.model_copy(update={"evaluate_every": 2})))
    assert ["test_top1" in record for record in history] == [False, True, True]


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    fit(small_fit(tmp_path, config=CONFIG.model_copy(update={"epochs": 1})))
    other = build(build_description("spiking-resnet14", 4, width=4, stem="7x7"), 0)
    with pytest.raises(CheckpointError, match="state of another network"):
        fit(small_fit(tmp_path, other))


def damaged_in(path: Path, name: str, value: object) -> None:
    """A state whose progress says something else, written as torch writes it."""
    stored = torch.load(path, weights_only=True)
    stored["progress"][name] = value
    torch.save(stored, path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", 10**9),
        ("epoch", -1),
        ("epoch", 1.0),
        ("batch", 4),
        ("batch", 10**6),
        ("batch", True),
        ("seen", 0),
        ("correct", 10**6),
        ("loss_sum", float("nan")),
        ("seconds", "long"),
        ("history", []),
        ("history", [{"epoch": 2, "seconds": 1.0}]),
        ("history", "none"),
        ("best_epoch", 7),
        ("best_top1", 700.0),
        ("unheard", 1),
    ],
)
def test_a_state_that_cannot_be_is_set_aside_for_the_last_epochs(tmp_path: Path, name: str, value: object) -> None:
    whole = fit(small_fit(make(tmp_path / "whole"), kept := student()))
    folder = make(tmp_path / "run")
    stopping = StopAt(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InterruptedRun):
        fit(small_fit(folder, events=stopping))
    damaged_in(folder / "state.pt", name, value)
    heard = Heard()
    again = fit(small_fit(folder, model := student(), events=heard))
    assert [record["train_loss"] for record in again] == [record["train_loss"] for record in whole]
    assert same(weights(model), weights(kept))
    assert "set aside as state.damaged.pt" in heard.said[0]
    assert "starts again from the last epoch's state" in heard.said[0]
    assert heard.started == [1]
    assert (folder / "state.damaged.pt").exists()


def test_a_flipped_bit_in_a_state_is_noticed_and_nothing_is_lost_by_it(tmp_path: Path) -> None:
    fit(small_fit(make(tmp_path / "whole"), kept := student()))
    folder = make(tmp_path / "run")
    stopping = StopAt(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InterruptedRun):
        fit(small_fit(folder, events=stopping))
    for path in (folder / "state.pt", folder / "epoch.state.pt"):
        # In the middle of the file stand weights.
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)
    heard = Heard()
    fit(small_fit(folder, model := student(), events=heard))
    assert same(weights(model), weights(kept))
    assert [("CRC-32" in each, "from the beginning" in each) for each in heard.said] == [(True, False), (True, True)]
    assert heard.started == [0]


def test_what_is_no_state_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a state")
    heard = Heard()
    fit(small_fit(tmp_path, events=heard))
    assert "starts again from the beginning" in heard.said[0]
    assert (tmp_path / "state.damaged.pt").read_bytes() == b"not a state"


class Heard(Events):
    """Remembers what was said, and how many epochs were done when a training began."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.started: list[int] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def fit_started(self, name: str, epochs: int, batches: int, done_epochs: int, done_batches: int) -> None:
        self.started.append(done_epochs)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
