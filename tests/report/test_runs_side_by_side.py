"""Every figure of a report against one worked out here, and its three forms."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import pytest
from made_runs import IMAGES, STUDENT, TEACHER, made_run, three_runs
from page_reading import Page

from idsnn_cli.architecture import forward_macs
from idsnn_cli.report.runs.page import charts_of, render_runs, run_tables
from idsnn_cli.report.runs.side_by_side import describe_runs
from idsnn_cli.report.runs.trainings import Run

EVIL = "</script><img src=x onerror=alert(1)>\"'&|`"
OWN, TEACHING = forward_macs(STUDENT, 8, 8), forward_macs(TEACHER, 8, 8)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return {"command": "report", **describe_runs(three_runs())}


def arm(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["arms"] if each["name"] == name)
    return found


def test_seeds_are_averaged_with_the_spread_of_a_sample(document: dict[str, Any]) -> None:
    both = arm(document, "both")
    assert (both["runs"], both["seeds"], both["complete"]) == (2, [0, 1], 2)
    for key, values in {"last": [59.0, 63.0], "best": [61.0, 63.0], "measured": [59.0, 63.0]}.items():
        assert both[key]["values"] == values
        assert both[key]["mean"] == sum(values) / 2
        assert both[key]["spread"] == pytest.approx(statistics.stdev(values))
    assert both["energy_uj"]["mean"] == 3.0
    assert arm(document, "start only")["last"]["spread"] is None
    assert arm(document, "both (baseline)")["best"]["values"] == [50.0, 54.0]


def test_a_repetition_is_no_other_seed() -> None:
    """Two runs of one recipe and seed have one figure, not two and a spread of 0."""
    runs = [
        made_run("both", [40.0, 61.0], seed=0),
        replace(made_run("both", [40.0, 61.0, 59.0], seed=0), folder="again"),
        made_run("both", [45.0, 60.0, 63.0], seed=1),
        replace(made_run("both", [41.0, 62.0, 64.0], seed=0, data={"seed": 5}), folder="other images"),
    ]
    document = describe_runs(runs)
    both = arm(document, "both")
    assert (both["runs"], both["seeds"], both["last"]["values"]) == (3, [0, 1, 0], [59.0, 63.0, 64.0])
    assert len(document["networks"]) == 4
    notes = " ".join(document["notes"])
    assert f"The student of again repeats that of {runs[0].folder}, its seeds too." in notes
    assert "A repetition is no other seed" in notes
    alone = arm(describe_runs(runs[:2]), "both")
    assert (alone["runs"], alone["last"]["spread"]) == (1, None)


def test_the_target_is_the_mean_of_the_baselines_bests(document: dict[str, Any]) -> None:
    (target,) = document["targets"]
    assert target == {
        "dataset": "cifar100",
        "split": "test",
        "timesteps": 4,
        "top1": 52.0,
        "of": "baseline",
        "arms": ["both", "both (baseline)", "start only"],
    }


def test_a_baseline_is_for_students_of_its_own_time_steps_and_settings() -> None:
    six, slow = {"timesteps": 6}, {"lr": 0.01}
    runs = [
        made_run("T=4", [40.0, 61.0], baseline=[20.0, 50.0]),
        made_run("T=6", [40.0, 61.0], baseline=[20.0, 60.0], student=six),
        made_run("T=4,alpha=0", [51.0, 40.0], distill={"alpha": 0}),
        made_run("lr=0.01", [70.0, 80.0], distill=slow),
        made_run("random T=6", [10.0, 64.0], teacher="none", student=six, init={"rule": "none"}, distill={"alpha": 0}),
    ]
    found = describe_runs(runs)
    assert [(each["timesteps"], each["top1"], each["arms"]) for each in found["targets"]] == [
        (4, 50.0, ["T=4", "T=4 (baseline)", "T=4,alpha=0"]),
        (6, 62.0, ["T=6", "T=6 (baseline)", "random T=6"]),
        (4, None, ["lr=0.01"]),
    ]
    reached = {each["arm"]: each["reach"] and each["reach"]["epoch"] for each in found["networks"][::2]}
    assert arm(found, "T=6")["reach"]["reached"] == 0
    assert arm(found, "T=4,alpha=0")["reach"]["epoch"] == 1
    assert arm(found, "random T=6")["reach"]["epoch"] == 2
    assert reached["T=4"] == 2
    assert [note for note in found["notes"] if "no accuracy to reach" in note] == [
        "Of lr=0.01 there is no baseline of the same time steps and settings, so no accuracy to reach: name one with "
        "--reach."
    ]
    captions = [table.caption for table in run_tables(found)][1:]
    assert captions == [
        "To reach 50.00 % on the test images of cifar100, the baseline's best at T = 4",
        "To reach 62.00 % on the test images of cifar100, the baseline's best at T = 6",
    ]
    given = describe_runs(runs, 55.0)
    assert [(each["timesteps"], each["top1"], len(each["arms"])) for each in given["targets"]] == [(None, 55.0, 7)]


def test_a_baseline_with_a_teacher_is_none_for_students_of_another_teaching() -> None:
    taught = [
        made_run(f"alpha={alpha}", [60.0], baseline=[top1], distill={"alpha": alpha, "baseline": "distilled"})
        for alpha, top1 in ((0.3, 50.0), (0.9, 58.0))
    ]
    assert [each["top1"] for each in describe_runs(taught)["targets"]] == [50.0, 58.0]


def test_students_of_a_given_teacher_are_drawn_by_operations_and_its_cost_is_said_to_be_unknown() -> None:
    runs = [made_run("given", [30.0, 60.0], teacher="given"), made_run("trained", [20.0, 50.0])]
    (chart,) = [each for each in charts_of(describe_runs(runs, 50)) if each.name == "macs"]
    step = IMAGES * (3 * OWN + TEACHING)
    assert [each.points for each in chart.series] == [
        ((step, 30.0), (2 * step, 60.0)),
        ((step + 3 * IMAGES * 3 * TEACHING, 20.0), (2 * step + 3 * IMAGES * 3 * TEACHING, 50.0)),
    ]
    assert chart.title.endswith("; not known, and not counted, for given")
    assert [", the teacher's own training not known" in each.words for each in chart.series] == [True, False]


def test_the_cost_of_reaching_it_without_the_teacher_and_with_it(document: dict[str, Any]) -> None:
    teacher = 3 * IMAGES * 3 * TEACHING
    both, start = arm(document, "both"), arm(document, "start only")
    # Seed 0 reaches 52 in epoch 2, seed 1 in epoch 3, for its second was not measured; each image is taught.
    own = 2.5 * IMAGES * (3 * OWN + TEACHING)
    assert (both["reach"]["reached"], both["reach"]["epoch"], both["reach"]["seconds"]) == (2, 2.5, 5.0)
    assert (both["reach"]["macs"], both["reach"]["macs_with_teacher"]) == (own, own + teacher)
    assert both["reach"]["seconds_with_teacher"] == 5.0 + 15.0
    assert start["reach"] == dict.fromkeys(both["reach"]) | {"reached": 0}
    # A baseline needs no teacher at all.
    baseline = arm(document, "both (baseline)")["reach"]
    assert (baseline["reached"], baseline["epoch"], baseline["seconds"]) == (1, 2, 2.0)
    assert baseline["macs"] == baseline["macs_with_teacher"] == 2 * IMAGES * 3 * OWN


def test_a_start_alone_pays_for_the_teacher_but_not_for_teaching() -> None:
    found = describe_runs([made_run("start", [30.0, 51.0], distill={"alpha": 0})], 51)
    (start,) = found["arms"]
    assert start["reach"]["macs"] == 2 * IMAGES * 3 * OWN
    assert start["reach"]["macs_with_teacher"] == 2 * IMAGES * 3 * OWN + 3 * IMAGES * 3 * TEACHING
    assert found["targets"][0]["of"] == "given"


def test_a_random_student_without_a_teacher_is_a_baseline() -> None:
    alone = made_run("random", [30.0, 44.0], teacher="none", init={"rule": "none"}, distill={"alpha": 0})
    found = describe_runs([alone, made_run("both", [43.0, 46.0])])
    assert found["targets"][0]["top1"] == 44.0
    assert found["arms"][0]["teacher"] == {"source": "none", "macs": 0, "seconds": 0}
    assert found["arms"][1]["reach"]["epoch"] == 2


def test_a_random_student_with_a_teachers_features_is_no_baseline() -> None:
    features = {"alpha": 0, "features": "attention"}
    found = describe_runs([made_run("features", [30.0, 44.0], init={"rule": "none"}, distill=features)])
    assert found["targets"][0]["top1"] is None


def test_the_cost_of_a_given_teacher_is_unknown_and_said_so() -> None:
    found = describe_runs([made_run("given", [30.0, 60.0], teacher="given")], 50)
    (given,) = found["arms"]
    assert given["reach"]["macs"] == 2 * IMAGES * (3 * OWN + TEACHING)
    assert given["reach"]["macs_with_teacher"] is given["reach"]["seconds_with_teacher"] is None
    assert "unknown" in run_tables(found)[1].rows[0]
    assert any("not known, and not included" in note for note in found["notes"])


def test_a_given_teacher_may_know_the_validation_images() -> None:
    def said(**given: Any) -> bool:
        data = {"dataset": "cifar100", "validation": 0.1, "select": "validation"} | given.pop("data", {})
        found = describe_runs([made_run("run", [None, None], data=data, **given)])
        return any("look better than they are" in note for note in found["notes"])

    assert said(teacher="given")
    assert not said(teacher="trained")
    assert not said(teacher="given", data={"select": "test"})
    # A folder's own validation images were kept aside by its owner.
    assert not said(teacher="given", data={"dataset": "folder", "path": "photos", "validation": None})


def test_two_folders_of_images_are_two_data_sets() -> None:
    runs = [
        made_run(path, [50.0], baseline=[top1], data={"dataset": "folder", "path": path})
        for path, top1 in (("cats", 10.0), ("dogs", 40.0))
    ]
    found = describe_runs(runs)
    assert [(each["dataset"], each["top1"]) for each in found["targets"]] == [
        ("folder cats", 10.0),
        ("folder dogs", 40.0),
    ]
    assert any("different data sets" in note for note in found["notes"])


def test_without_a_baseline_there_is_nothing_to_reach() -> None:
    found = describe_runs([made_run("both", [43.0, 46.0])])
    assert found["targets"][0]["top1"] is None
    assert any("--reach" in note for note in found["notes"])
    assert len(run_tables(found)) == 1


def test_the_papers_value_stands_beside_a_run_that_claims_its_row() -> None:
    claims = {"table": 3, "row": "both"}
    run = made_run("paper", [70.0, 76.0, 75.0], baseline=[60.0, 71.0, 70.0], claims=claims)
    found = describe_runs([run])
    both, baseline = (each["paper"] for each in found["arms"])
    assert (both["top1"], both["ours"], both["table"]) == (75.24, 76.0, 2)
    assert both["difference"] == pytest.approx(0.76)
    assert (baseline["top1"], baseline["row"], baseline["ours"]) == (71.34, "baseline", 71.0)
    part = made_run("part", [70.0], claims=claims, data={"subset": 500})
    other = made_run("five", [70.0], claims=claims, student={"timesteps": 5})
    thin = made_run("thin", [70.0], claims=claims, student={"width": 16})
    found = describe_runs([part, other, thin])
    assert [each["paper"] for each in found["arms"]] == [None] * 3
    assert sum("claims a row" in note for note in found["notes"]) == 3


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("both", {}),
        ("init", {"distill": {"alpha": 0}}),
        ("kd", {"init": {"rule": "none"}}),
        ("baseline", {"init": {"rule": "none"}, "distill": {"alpha": 0}}),
    ],
)
def test_a_claim_that_an_override_broke_is_no_claim(row: str, settings: dict[str, Any]) -> None:
    for claimed in ("both", "init", "kd", "baseline"):
        found = describe_runs([made_run("run", [70.0], claims={"table": 3, "row": claimed}, **settings)])
        assert (found["arms"][0]["paper"] is not None) is (claimed == row)
        assert any("claims a row" in note for note in found["notes"]) is (claimed != row)
    first = made_run("run", [70.0], claims={"table": 3, "row": "both"}, pretrain={"epochs": 2})
    assert describe_runs([first])["arms"][0]["paper"] is None


def test_a_shorter_training_than_the_papers_is_said() -> None:
    def notes(**given: Any) -> list[str]:
        distill = {"schedule": "step", "step_every": 10} | given
        claims = {"table": 4 if distill["step_every"] != 60 else 3, "row": "both"}
        found = describe_runs([made_run("run", [70.0], claims=claims, distill=distill)])
        assert found["arms"][0]["paper"] is not None
        return [note for note in found["notes"] if "the paper's row for" in note]

    assert notes(epochs=40) == notes(epochs=200, step_every=60) == []
    assert notes(epochs=200) == ["runs/run-0 trains for 200 epochs, and the paper's row for 40."]
    assert notes(epochs=30, step_every=60) == ["runs/run-0 trains for 30 epochs, and the paper's row for 200."]


def test_two_arms_of_one_name_get_longer_ones() -> None:
    first, second = made_run("same", [1.0]), made_run("same", [2.0], distill={"alpha": 0.5}, seed=1)
    object.__setattr__(second, "arm", "another")
    names = [each["name"] for each in describe_runs([first, second])["arms"]]
    assert names == ["runs/same-0", "runs/same-1"]


def test_an_unfinished_run_counts_as_far_as_it_is() -> None:
    run = made_run("begun", [10.0, 20.0])
    object.__setattr__(run.trainings["student"], "planned", 9)
    found = describe_runs([run], 15)
    assert found["arms"][0]["complete"] == 0
    assert found["arms"][0]["reach"]["epoch"] == 2
    assert "begun: 0 of 1 trainings are finished." in found["notes"]


def with_baselines(runs: list[Run], *arms: str) -> list[Run]:
    return [replace(run, baseline_arm=arm) for run, arm in zip(runs, arms, strict=True)]


def test_one_baseline_of_several_runs_is_one_row() -> None:
    half = {"alpha": 0.5}
    runs = with_baselines(
        [
            made_run("T=4,alpha=0", [40.0], baseline=[30.0]),
            made_run("T=4,alpha=0", [41.0], seed=1, baseline=[34.0]),
            made_run("T=4,alpha=0.5", [42.0], baseline=[30.0], distill=half),
            made_run("T=6,alpha=0", [43.0], baseline=[35.0]),
        ],
        *("four", "four", "four", "six"),
    )
    found = describe_runs(runs)
    assert [each["name"] for each in found["arms"]] == [
        *("T=4,alpha=0", "T=4 (baseline)", "T=4,alpha=0.5", "T=6,alpha=0", "T=6,alpha=0 (baseline)"),
    ]
    four = arm(found, "T=4 (baseline)")
    assert (four["runs"], four["last"]["values"]) == (2, [30.0, 34.0])
    assert four["last"]["spread"] == pytest.approx(statistics.stdev([30.0, 34.0]))
    assert found["targets"][0]["top1"] == (30.0 + 34.0 + 35.0) / 3
    assert [each["shared_with"] for each in found["networks"] if each["role"] == "baseline"] == [
        *(["runs/T=4,alpha=0.5-0"], [], []),
    ]
    assert Page(render_runs({"command": "report", **found})).faults == []


def test_baselines_of_nothing_in_common_keep_apart() -> None:
    runs = [made_run("one", [40.0], baseline=[30.0]), made_run("two", [42.0], baseline=[30.0], seed=1)]
    assert [each["name"] for each in describe_runs(with_baselines(runs, "a", "b"))["arms"]] == [
        *("one", "one (baseline)", "two", "two (baseline)"),
    ]
    merged = describe_runs(with_baselines(runs, "a", "a"))["arms"]
    assert [(each["name"], each["runs"]) for each in merged] == [("one", 1), ("baseline", 2), ("two", 1)]


def test_what_one_run_measured_stands_for_the_baseline_of_both() -> None:
    runs = with_baselines([made_run(name, [40.0], baseline=[30.0]) for name in ("one", "two")], "a", "a")
    row = {"name": "baseline", "top1": 31.0, "energy": {"energy_uj": 7.0}}
    runs[1] = replace(runs[1], arm="other", evaluation={"split": "test", "results": [row]})
    baseline = arm(describe_runs(runs), "baseline")
    assert baseline["energy_uj"]["values"] == [7.0]
    assert baseline["measured"]["values"] == [31.0]
