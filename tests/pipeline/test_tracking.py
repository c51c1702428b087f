"""Trackers: what they are given, over resumes and kills; that none of them stops a training; odd firing rates told."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Heard, distill_step, init_step, open_run, preview, teacher_step, weights_of, write_recipe

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import MissingPackageError
from idsnn_cli.evaluation.firing import firing_rates, odd_rates
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.initializer import reestimate
from idsnn_cli.models import build
from idsnn_cli.pipeline import tracking
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.tracking import Watching
from idsnn_cli.training.trackers import Log, Tracked, Tracker

Values = dict[int, list[float]]
PLAIN = ("distill.schedule=constant", "distill.lr=0.02")


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose student is still to be trained."""
    folder = tmp_path_factory.mktemp("began")
    run = open_run(write_recipe(folder), folder / "run")
    teacher_step(run)
    init_step(run)
    return folder / "run"


def trained(began: Path, place: Path, *words: str, events: Heard | None = None) -> RunDirectory:
    """The student's training in a run of its own in ``place``, with the other's teacher and first weights."""
    place.mkdir(exist_ok=True)
    run = open_run(write_recipe(place), place / "run", *PLAIN, *words, events=events)
    distill_step(run, teacher=began / "teacher.safetensors", student=began / "init.safetensors")
    return run


def records(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "distill" / "metrics.jsonl").read_text().splitlines()]


def required(values: Mapping[str, Values], run: RunDirectory) -> None:
    """Every figure of every epoch is there once, as in metrics.jsonl, and the rate of every layer."""
    history = records(run)
    layers = {name for name in values if name.startswith("firing_rate/")}
    assert len(layers) == 7
    assert values.keys() - layers == history[0].keys() - {"epoch"}
    for name in values.keys() - layers:
        wanted = {record["epoch"]: [pytest.approx(record[name], rel=1e-5)] for record in history}
        assert values[name] == wanted, name
    for name in layers:
        assert sorted(values[name]) == [record["epoch"] for record in history]
        assert all(len(each) == 1 and 0 <= each[0] <= 1 for each in values[name].values())


def of_tensorboard(run: RunDirectory, step: str = "distill") -> dict[str, Values]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (run.path / "tensorboard" / step).iterdir()
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    values: dict[str, Values] = {}
    for tag in found.Tags()["scalars"]:
        for each in found.Scalars(tag):
            values.setdefault(tag, {}).setdefault(each.step, []).append(each.value)
    return values


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of an offline file: LevelDB's log behind seven bytes, in blocks of 32 KiB whose ends are padded."""
    raw, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(raw):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        _, size, kind = struct.unpack_from("<IHB", raw, place)
        parts += raw[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def of_wandb(run: RunDirectory) -> dict[str, Values]:
    from wandb.proto import wandb_internal_pb2

    values: dict[str, Values] = {}
    files = sorted((run.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({file.stem for file in files}) == 1
    for file in files:
        for data in wandb_records(file):
            # Its module makes its classes as it is imported.
            record = getattr(wandb_internal_pb2, "Record")()  # noqa: B009
            record.ParseFromString(data)
            items = record.history.item
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
            for key, value in row.items():
                if not key.startswith("_"):
                    values.setdefault(key, {}).setdefault(record.history.step.num, []).append(value)
    return values


def of_mlflow(run: RunDirectory) -> dict[str, Values]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("idsnn")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.data.tags["step"]) == ("FINISHED", "distill")
    assert found.data.params["student.timesteps"] == "2"
    values: dict[str, Values] = {}
    for name in found.data.metrics:
        for each in client.get_metric_history(found.info.run_id, name):
            values.setdefault(name, {}).setdefault(each.step, []).append(each.value)
    return values


def of_trackio(run: RunDirectory) -> dict[str, Values]:
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("idsnn")
    values: dict[str, Values] = {}
    for row in SQLiteStorage.get_logs("idsnn", name):
        for key, value in row.items():
            if key not in ("step", "timestamp"):
                values.setdefault(key, {}).setdefault(row["step"], []).append(value)
    return values


READERS = {"tensorboard": of_tensorboard, "wandb": of_wandb, "mlflow": of_mlflow, "trackio": of_trackio}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the trackers' own
@pytest.mark.parametrize("name", READERS)
def test_a_tracker_has_each_epoch_once_over_a_resume(
    began: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    if name == "trackio":
        monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
        monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    heard = Heard()
    trained(began, tmp_path, f"runtime.track=[{name}]", "distill.epochs=2", events=heard)
    kept = json.loads((tmp_path / "run" / "distill" / "tracking.json").read_text())
    run = trained(began, tmp_path, f"runtime.track=[{name}]", "distill.epochs=4", events=heard)
    assert not any("failed" in line for line in heard.said), heard.said
    again = json.loads((tmp_path / "run" / "distill" / "tracking.json").read_text())
    assert (kept["id"], kept["runs"][name]["identity"]) == (again["id"], again["runs"][name]["identity"])
    assert (kept["runs"][name]["epoch"], again["runs"][name]["epoch"]) == (2, 4)
    required(READERS[name](run), run)


@pytest.mark.slow
@pytest.mark.parametrize("renames", [9, 12])
def test_a_killed_training_writes_no_epoch_twice(began: Path, tmp_path: Path, renames: int) -> None:
    pytest.importorskip("tensorboard")
    recipe = write_recipe(tmp_path)
    words = ["distill", str(recipe), *PLAIN, "distill.epochs=3", "runtime.track=[tensorboard]"]
    words += ["--run-dir", str(tmp_path / "run"), "--teacher", str(began / "teacher.safetensors")]
    words += ["--student", str(began / "init.safetensors")]
    program = [sys.executable, str(Path(__file__).with_name("killing.py"))]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [*program, "rename", str(renames), *words], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -9
    whole = subprocess.run([*program, "never", "1", *words], env=environment, capture_output=True, check=False)
    assert whole.returncode == 0, whole.stderr
    run = open_run(recipe, tmp_path / "run", *PLAIN, "distill.epochs=3")
    losses = of_tensorboard(run)["train_loss"]
    assert sorted(losses)[-1] == 3
    assert all(len(each) == 1 for each in losses.values())
    # One that was announced, and then not written, is missing; none is there twice.
    assert len(losses) >= 2
    assert [record["epoch"] for record in records(run)] == [1, 2, 3]


class Faulty(Tracker):
    """One that breaks at the place that it is told."""

    package = ("json", "none")

    def __init__(self, at: str) -> None:
        self.at, self.written = at, list[int]()

    def open(self, of: Tracked, identity: str | None) -> Log:
        if self.at == "open":
            raise ConnectionError("nobody is\nthere")
        tracker = self

        class Breaking(Log):
            identity = "one"

            def write(self, epoch: int, figures: Mapping[str, float]) -> None:
                tracker.written.append(epoch)
                print("noise")  # noqa: T201  # what a tracker prints is nobody's output
                if tracker.at == "write":
                    raise RuntimeError("the disk is full")

            def close(self) -> None:
                if tracker.at == "close":
                    raise OSError("too late")

        return Breaking()


@pytest.mark.parametrize(
    ("at", "said"), [("open", "nobody is there"), ("write", "the disk is full"), ("close", "late")]
)
def test_a_tracker_that_fails_stops_nothing(
    began: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: str,
    said: str,
) -> None:
    plain = trained(began, tmp_path / "plain")
    faulty, heard = Faulty(at), Heard()
    monkeypatch.setattr(tracking, "find", lambda *_: faulty)
    run = trained(began, tmp_path / "tracked", "runtime.track=[wandb]", events=heard)
    told = [line for line in heard.said if "wandb" in line]
    assert len(told) == 1
    assert f"{said}" in told[0]
    assert told[0].startswith("distill: wandb failed and is left out from here on, training goes on")
    assert faulty.written == {"open": [], "write": [1], "close": [1, 2]}[at]
    assert capsys.readouterr().out == ""
    assert weights_of(run.path / "student.safetensors") == weights_of(plain.path / "student.safetensors")


def test_what_is_kept_of_trackers_and_cannot_be_read_begins_anew(began: Path, tmp_path: Path) -> None:
    faulty = Faulty("never")
    file = tmp_path / "tracking.json"
    for content in ("", "{", "[]", '{"id": "a"}', '{"id": "a", "runs": {"wandb": {"epoch": 1}}}'):
        file.write_text(content)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(tracking, "find", lambda *_: faulty)
            with watching(file) as watched:
                watched.epochs([{"epoch": 1, "train_loss": 1.0}])
        assert json.loads(file.read_text())["runs"] == {"wandb": {"identity": "one", "epoch": 1}}
    assert faulty.written == [1] * 5


def watching(file: Path, said: list[str] | None = None) -> Watching:
    model = build(build_description("resnet8", 10, width=4), 0)
    say = (said if said is not None else []).append
    return Watching(("wandb",), file.parent, "distill", file, {}, model, lambda: torch.zeros(2, 3, 8, 8), 0, say)


def test_epochs_that_a_kill_left_unwritten_come_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty("never")
    monkeypatch.setattr(tracking, "find", lambda *_: faulty)
    history = [{"epoch": epoch, "train_loss": 1.0} for epoch in (1, 2, 3)]
    with watching(tmp_path / "tracking.json") as watched:
        watched.epochs(history[:1])
        watched.epochs(history[:1])
    with watching(tmp_path / "tracking.json") as watched:
        watched.epochs(history)
    assert faulty.written == [1, 2, 3]


def test_a_new_training_is_another_run(began: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find", lambda *_: Faulty("never"))
    run = trained(began, tmp_path, "runtime.track=[wandb]")
    first = json.loads((run.path / "distill" / "tracking.json").read_text())["id"]
    anew = open_run(tmp_path / "tiny.yaml", run.path, *PLAIN, "runtime.track=[wandb]", force=True)
    distill_step(anew, teacher=began / "teacher.safetensors", student=began / "init.safetensors")
    assert json.loads((run.path / "distill" / "tracking.json").read_text())["id"] != first


def test_a_training_behind_one_of_no_epochs_is_another_run(
    began: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its epochs are not those that the tracker has of the training before."""
    monkeypatch.setattr(tracking, "find", lambda *_: Faulty("never"))
    words = ("runtime.track=[wandb]", "distill.epochs=2")
    file = tmp_path / "run" / "distill" / "tracking.json"
    trained(began, tmp_path, *words)
    first = json.loads(file.read_text())["id"]
    none = open_run(tmp_path / "tiny.yaml", tmp_path / "run", *PLAIN, words[0], "distill.epochs=0", force=True)
    distill_step(none, teacher=began / "teacher.safetensors", student=began / "init.safetensors")
    assert not file.exists()
    trained(began, tmp_path, *words)
    kept = json.loads(file.read_text())
    assert kept["id"] != first
    assert kept["runs"]["wandb"]["epoch"] == 2


def test_a_missing_library_is_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    run = open_run(write_recipe(tmp_path), tmp_path / "run", "runtime.track=[mlflow]")
    with pytest.raises(MissingPackageError, match="names mlflow, which is not installed") as caught:
        preview(run, ["teacher"])
    assert caught.value.fix == "Install it with: pip install 'idsnn-cli[mlflow]'"
    tracking.require_trackers(())


# Firing rates


def test_rates_are_those_of_the_measure_and_leave_the_network_alone() -> None:
    model = build(build_description("spiking-resnet8", 10, width=4, timesteps=3), 1)
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    reestimate(model, [images])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rates = firing_rates(model.train(), images)
    _, found = measure_fully(model, lambda: [(images, torch.zeros(12, dtype=torch.int64))], ("activity",))
    assert rates == {each.layer: each.firing_rate for each in found["activity"]}
    assert 0 < max(rates.values()) < 1
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert firing_rates(build(build_description("resnet8", 10, width=4), 1), images) == {}
    assert odd_rates({"a": 0.0099, "b": 0.01, "c": 0.9, "d": 0.91}) == {"a": 0.0099, "d": 0.91}


def test_layers_that_fire_oddly_are_told_when_they_begin_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = iter(
        [{"a": 0.5, "b": 0.001}, {"a": 0.95, "b": 0.0}, {"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.002, "c": 0.5}]
    )
    monkeypatch.setattr(tracking, "firing_rates", lambda *_: next(shown))
    said: list[str] = []
    watched = watching(tmp_path / "tracking.json", said)
    history = [{"epoch": epoch} for epoch in range(1, 5)]
    for epoch in range(1, 5):
        watched.epochs(history[:epoch])
    told = [line.partition(";")[0] for line in said]
    assert told == [
        "distill, epoch 1: 1 of 2 layers fire below 1 % (b 0.1 %)",
        "distill, epoch 2: 1 of 2 layers fire above 90 % (a 95 %)",
        "distill, epoch 4: 1 of 3 layers fire below 1 % (b 0.2 %)",
    ]
    assert "student.v_threshold" in said[0]


def test_a_silent_student_is_told_in_a_run(began: Path, tmp_path: Path) -> None:
    heard = Heard()
    run = open_run(write_recipe(tmp_path), tmp_path / "run", "student.v_threshold=1e6", "init.rule=none", events=heard)
    init_step(run)
    distill_step(run, teacher=began / "teacher.safetensors")
    (told,) = [line for line in heard.said if "fire below" in line]
    assert told.startswith("distill, epoch 1: ")
    assert "of 7 layers fire below 1 %" in told
