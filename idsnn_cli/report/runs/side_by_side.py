"""Runs side by side: accuracy, what it took, energy, and the paper's value."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idsnn_cli.report.runs.document import RunsDocument
from idsnn_cli.report.runs.paper import OWN_NETWORK, epochs_of, reported, row_of
from idsnn_cli.report.runs.shared_baselines import baseline_names, counted_once, sharing_notes
from idsnn_cli.report.runs.targets import target_notes, targets
from idsnn_cli.report.runs.trainings import Role, Run, curve, pretraining_cost, reach, teacher_cost
from idsnn_cli.results import read

ROLES: tuple[Role, ...] = ("student", "baseline")
# The run's own seed, that of the choice of images and that of the teacher.
Seeds = tuple[int | None, ...]
COSTS = ("epoch", "images", "macs", "seconds", "macs_with_teacher", "seconds_with_teacher")


def compare_runs(runs: Sequence[Run], top1: float | None = None) -> RunsDocument:
    """``runs`` compared; ``top1`` is the accuracy in percent to reach, by default the baseline's best.

    Baselines are the networks trained beside a student, and students that were trained from a random start without a
    teacher.
    """
    compared: RunsDocument = read(RunsDocument, _compared(runs, top1))
    return compared


def describe_runs(runs: Sequence[Run], top1: float | None = None) -> dict[str, Any]:
    """:func:`compare_runs` as a plain dictionary."""
    return compare_runs(runs, top1).to_dict()


def _compared(runs: Sequence[Run], top1: float | None) -> dict[str, Any]:
    names = _names(runs)
    by_folder = {run.folder: run for run in runs}
    bases = baseline_names([run for run in runs if _trained(run, "baseline")], names)
    named = {"student": names, "baseline": bases}
    networks = counted_once(
        [_network(run, role, named[role][run.arm_of(role)]) for run in runs for role in ROLES if _trained(run, role)],
        by_folder,
    )
    found, wanted = targets(networks, by_folder, top1, arm_name)
    for network, target in zip(networks, wanted, strict=True):
        best = target["top1"]
        network["reach"] = None if best is None else reach(network["curve"], best, network["teacher"])
    groups: dict[tuple[str, str], dict[Seeds, tuple[Run, dict[str, Any]]]] = {}
    repeated = []
    for network in networks:
        run = by_folder[network["run"]]
        members = groups.setdefault((run.arm_of(network["role"]), network["role"]), {})
        _, held = members.setdefault(_seeds(run), (run, network))
        if held is not network:
            repeated.append(f"The {network['role']} of {network['run']} repeats that of {held['run']}, its seeds too.")
            if len(held["curve"]) < len(network["curve"]):
                members[_seeds(run)] = run, network
    arms = [_arm(list(members.values())) for members in groups.values()]
    if repeated:
        repeated.append("A repetition is no other seed: the one of more epochs counts, or else the first.")
    return {
        "targets": found,
        "networks": networks,
        "arms": arms,
        "notes": repeated + _notes(runs, networks, arms, found),
    }


def _seeds(run: Run) -> Seeds:
    """All that may differ between runs of one arm."""
    return run.seed, *(run.settings[section].get("seed") for section in ("data", "teacher"))


def _trained(run: Run, role: Role) -> bool:
    """Whether there is something to show: a finished epoch, or a student that is not to be trained and was made."""
    training = run.trainings.get(role)
    return training is not None and (bool(training.history) or training.planned == 0)


def _names(runs: Sequence[Run]) -> dict[str, str]:
    """A name for each arm, the first run's label; longer ones where two would be called the same."""
    first = {run.arm: run for run in reversed(runs)}
    names = {arm: run.label for arm, run in first.items()}
    for longer in (lambda run: f"{Path(run.folder).parent.name}/{run.label}", lambda run: run.folder):
        counts = Counter(names.values())
        names = {arm: longer(first[arm]) if counts[name] > 1 else name for arm, name in names.items()}
    return names


def _network(run: Run, role: Role, arm: str) -> dict[str, Any]:
    training = run.trainings[role]
    before = pretraining_cost(run) if role == "student" else None
    points = curve(training, run.teacher_architecture, before)
    seen = [point for point in points if point["top1"] is not None]
    best = max(seen, key=lambda point: (point["top1"], -point["epoch"]), default=None)
    row = _row(run, role)
    measured = None
    if row is not None and run.evaluation is not None:
        measured = {"split": run.evaluation["split"], "keep": run.settings["distill"]["keep"], "top1": row["top1"]}
    return {
        "run": run.folder,
        "shared_with": [],
        "arm": arm,
        "role": role,
        "seed": run.seed,
        "dataset": _dataset(run.settings["data"]),
        "split": training.split,
        "timesteps": run.settings["student"]["timesteps"],
        "planned": training.planned,
        "pretraining": before,
        "curve": points,
        "teacher": teacher_cost(run, role),
        "last": seen[-1]["top1"] if seen else None,
        "best": best["top1"] if best else None,
        "best_epoch": best["epoch"] if best else None,
        "measured": measured,
        "energy_uj": None if row is None else energy_of(row),
    }


def _dataset(data: Mapping[str, Any]) -> str:
    """``cifar10``, and with its path what everybody's own goes by: ``folder photos``."""
    return str(data["dataset"]) if data["path"] is None else f"{data['dataset']} {data['path']}"


def _row(run: Run, role: Role) -> Mapping[str, Any] | None:
    """The network's figures in eval.json."""
    results = [] if run.evaluation is None else run.evaluation["results"]
    return next((row for row in results if row["name"] == role), None)


def energy_of(row: Mapping[str, Any]) -> float | None:
    """Microjoules an image, where eval.json's row holds an energy."""
    energy = row.get("energy")
    value = energy.get("energy_uj") if isinstance(energy, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def summarised(values: Sequence[float | None]) -> dict[str, Any] | None:
    """``values`` that there are, their ``mean`` and their ``spread``, the standard deviation of a sample, n - 1."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    spread = statistics.stdev(there) if len(there) > 1 else None
    return {"values": there, "mean": statistics.fmean(there), "spread": spread}


def _arm(members: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, Any]:
    run, first = members[0]
    networks = [network for _, network in members]
    reached = [network["reach"] for network in networks if network["reach"] is not None]
    means = {key: _mean([found[key] for found in reached]) for key in COSTS}
    best = summarised([network["best"] for network in networks])
    measured = summarised([network["measured"] and network["measured"]["top1"] for network in networks])
    if measured is not None:
        kept = next(network["measured"] for network in networks if network["measured"])
        measured |= {"split": kept["split"], "keep": kept["keep"]}
    arm = {key: first[key] for key in ("role", "dataset", "split", "timesteps", "planned")} | {
        "name": arm_name(first),
        "runs": len(networks),
        "seeds": [network["seed"] for network in networks],
        "complete": sum(len(network["curve"]) >= network["planned"] for network in networks),
        "last": summarised([network["last"] for network in networks]),
        "best": best,
        "measured": measured,
        "energy_uj": summarised([network["energy_uj"] for network in networks]),
        "teacher": {
            "source": first["teacher"]["source"],
            **{key: _mean([network["teacher"][key] for network in networks]) for key in ("macs", "seconds")},
        },
        "reach": {"reached": len(reached), **means},
    }
    # The paper reports its best test epoch.
    ours = best if first["split"] == "test" else measured
    return arm | {"paper": _paper(run, first["role"], ours)}


def arm_name(network: Mapping[str, Any]) -> str:
    """The name of the arm of one of ``networks``."""
    if network["role"] == "student":
        return str(network["arm"])
    return f"{network['arm']} (baseline)" if network["arm"] else "baseline"


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there is no value, or one is not known."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there and len(there) == len(values) else None


def _paper(run: Run, role: str, ours: dict[str, Any] | None) -> dict[str, Any] | None:
    claims, settings = run.settings["claims"], run.settings
    data, distill = settings["data"], settings["distill"]
    dataset = claims["dataset"] or data["dataset"]
    student = settings["student"]
    timesteps = claims["timesteps"] or student["timesteps"]
    whole = data["subset"] is None and data["test_subset"] is None
    usual_width = student["width"] is None
    same_row = dataset == data["dataset"] and timesteps == student["timesteps"]
    if claims["table"] is None or not (whole and usual_width and same_row):
        return None
    table, row = claims["table"], claims["row"]
    if role == "student" and row != row_of(settings):
        return None
    if role == "baseline":
        if distill["baseline"] != "plain":
            return None
        table, row = (4 if table == 4 else 3), "baseline"
    found = reported(table, row, dataset, timesteps, claims["step"] or distill["step_every"], student["arch"])
    if found is None:
        return None
    mean = None if ours is None else ours["mean"]
    return found.to_dict() | {"ours": mean, "difference": None if mean is None else mean - found.top1}


def _may_know(run: Run) -> bool:
    """Whether a figure is of images on which a teacher from elsewhere may have been trained."""
    shown = {run.settings["data"]["select"], "test" if run.evaluation is None else run.evaluation["split"]}
    return run.teacher == "given" and run.settings["data"]["validation"] is not None and "validation" in shown


def _shorter(run: Run) -> list[str]:
    """That a claimed row was trained for another number of epochs, if it was."""
    claims, distill = run.settings["claims"], run.settings["distill"]
    theirs = epochs_of(claims["table"], claims["step"] or distill["step_every"])
    # Of the rows of other systems the paper says no epochs.
    if distill["epochs"] == theirs or run.settings["student"]["arch"] != OWN_NETWORK:
        return []
    count = distill["epochs"]
    return [f"{run.folder} trains for {count} epoch{'' if count == 1 else 's'}, and the paper's row for {theirs}."]


def _notes(
    runs: Sequence[Run],
    networks: Sequence[dict[str, Any]],
    arms: Sequence[dict[str, Any]],
    wanted: Sequence[dict[str, Any]],
) -> list[str]:
    notes = []
    if any(network["split"] == "test" for network in networks):
        notes.append(
            "The best epoch was chosen on the test images, as the paper does: it is optimistic. data.select=validation "
            "chooses it on others."
        )
    notes += target_notes(wanted)
    if any(network["teacher"]["source"] == "given" for network in networks):
        notes.append("A teacher was given as a file: what its training took is not known, and not included.")
    pretrained = {network["arm"]: network["pretraining"]["epochs"] for network in networks if network["pretraining"]}
    if pretrained:
        epochs = ", ".join(f"{arm}: {'not known' if n is None else n}" for arm, n in pretrained.items())
        notes.append(
            f"Operations, images and seconds include training the student's shape as an ANN first; its epochs are not "
            f"counted among the student's ({epochs})."
        )
    if any(_may_know(run) for run in runs):
        notes.append(
            "Validation images were drawn from the training images (data.validation). A teacher given as a file may "
            "have been trained on them, and then its students look better than they are."
        )
    told = [each for each in networks if each["pretraining"] is None or each["pretraining"]["epochs"] is not None]
    if any(network["curve"] and network["curve"][-1]["macs"] is None for network in told):
        notes.append("Operations are not known where the teacher that taught is not there any more.")
    if len({network["timesteps"] for network in networks}) > 1:
        notes.append("The runs have different numbers of time steps.")
    if len({network["dataset"] for network in networks}) > 1:
        notes.append("The runs are of different data sets: their accuracies do not compare.")
    for run in runs:
        if not any(_trained(run, role) for role in ROLES):
            notes.append(f"{run.folder} has no finished epoch of a student yet.")
        elif run.settings["claims"]["table"] is not None and _paper(run, "student", None) is None:
            notes.append(
                f"{run.folder} claims a row of the paper, but its start, loss, data, network or time steps are not "
                "that row's."
            )
        elif run.settings["claims"]["table"] is not None:
            notes += _shorter(run)
    unfinished = [each for each in arms if each["complete"] < each["runs"]]
    notes += sharing_notes(networks, arm_name)
    notes += [f"{arm['name']}: {arm['complete']} of {arm['runs']} trainings are finished." for arm in unfinished]
    return notes
