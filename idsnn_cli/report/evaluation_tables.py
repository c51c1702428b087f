"""The document of ``idsnn eval`` as tables that a terminal and a Markdown page show alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
MISTAKES = 10


@dataclass(frozen=True, slots=True)
class ResultTable:
    """``measure`` is the key of the row's figures; cells are text, numbers, or None; ``notes`` stand below."""

    measure: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()


def networks_table(document: Mapping[str, Any]) -> ResultTable:
    """All networks in one table."""
    keys = ("name", "top1", "top5", "loss", "parameters", "timesteps")
    return ResultTable(
        "networks",
        f"{document['dataset']}, {document['images']:,} {document['split']} images, {document['device']}",
        ("network", "top-1 %", "top-5 %", "loss", "parameters", "T", "images/s"),
        tuple((*(row[key] for key in keys), round(row["images_per_second"])) for row in document["results"]),
        tuple(note for row in document["results"] for note in _missing(row)),
    )


def _missing(row: Row) -> Iterator[str]:
    """What was asked of an ANN that needs time steps: it is null in the JSON and has no table."""
    names = [key.replace("_", "-") for key in _TABLES if key in row and row[key] is None]
    if names:
        yield f"{row['name']} is an ANN: without time steps there is no {', no '.join(names)}"


def measure_tables(row: Row, classes: Sequence[str]) -> Iterator[ResultTable]:
    """The tables of one network: of each measure that it has and that means something for it."""
    for key, table in _TABLES.items():
        if row.get(key) is not None:
            yield table(row, classes)


def caveats(document: Mapping[str, Any]) -> list[str]:
    """What must be said of the energy figures, once for all networks."""
    said = [words for row in document["results"] if row.get("energy") for words in row["energy"]["caveats"]]
    return list(dict.fromkeys(said))


def _calibration(row: Row, classes: Sequence[str]) -> ResultTable:
    errors = row["calibration"]["ece_by_step"]
    return ResultTable(
        "calibration",
        "calibration after each step",
        ("t", "top-1 %", "calibration error %"),
        tuple(
            (step, top1, error) for step, (top1, error) in enumerate(zip(row["top1_by_step"], errors, strict=True), 1)
        ),
        (f"expected calibration error in {row['calibration']['bins']} bins of the chosen class's probability",),
    )


def _beyond(row: Row, classes: Sequence[str]) -> ResultTable:
    found = row["beyond"]
    values = list(zip(found["top1_by_step"], found["ece_by_step"], strict=True))
    return ResultTable(
        "beyond",
        f"the same weights for {found['timesteps']} steps",
        ("t", "top-1 %", "calibration error %"),
        tuple((step, *both) for step, both in enumerate(values, 1) if step > row["timesteps"]),
    )


def _activity(row: Row, classes: Sequence[str]) -> ResultTable:
    return ResultTable(
        "activity",
        "how much each layer fires",
        ("neurons of", "count", "rate %", "silent %", "saturated %"),
        tuple(
            (
                layer["layer"],
                layer["neurons"],
                *(100 * layer[key] for key in ("firing_rate", "silent", "saturated")),
            )
            for layer in row["activity"]
        ),
        (
            "rate: spikes for each neuron, step and image; silent: never fired on any image; saturated: at every step "
            "of every image",
        ),
    )


def _energy(row: Row, classes: Sequence[str]) -> ResultTable:
    found, spiking = row["energy"], row["kind"] == "spiking"
    layers = tuple(
        (
            layer["layer"],
            round(layer["macs"] / 1e3),
            None if layer["input_rate"] is None else 100 * layer["input_rate"],
            None if layer["reads"] == "values" else round(layer["synops"] / 1e3),
            round(1e3 * layer["energy_uj"]),
            round(1e3 * layer["ann_energy_uj"]),
        )
        for layer in found["layers"]
    )
    total = ("all", round(found["ann_macs"] / 1e3), None, round(found["synops"] / 1e3))
    energies = (round(1e3 * found["energy_uj"]), round(1e3 * found["ann_energy_uj"]))
    ratio = "" if found["ratio"] is None else f"; the ANN takes {found['ratio']:.2f} times as much"
    said = (
        f"one image: {found['energy_uj']:.3f} uJ ({found['macs']:,} MACs, {round(found['synops']):,} SynOps); "
        f"the same network as an ANN: {found['ann_energy_uj']:.3f} uJ ({found['ann_macs']:,} MACs){ratio}"
        if spiking
        else f"one image: {found['energy_uj']:.3f} uJ ({found['macs']:,} MACs)"
    )
    title = "operations and energy for one image"
    if not spiking:
        counted = tuple((name, macs, energy) for name, macs, *_, energy in (*layers, (*total, *energies)))
        return ResultTable("energy", title, ("layer", "MACs/1000", "nJ"), counted, (said,))
    return ResultTable(
        "energy",
        title,
        ("layer", "MACs/1000", "input %", "SynOps/1000", "nJ", "ANN nJ"),
        (*layers, (*total, *energies)),
        (said, "input %: spikes for each value that the layer reads, at each step"),
    )


def _early_exit(row: Row, classes: Sequence[str]) -> ResultTable:
    return ResultTable(
        "early_exit",
        "early exit at a confidence",
        ("confidence", "mean steps", "top-1 %"),
        tuple((each["threshold"], each["mean_steps"], each["top1"]) for each in row["early_exit"]),
        (f"without it: {_many(row['timesteps'], 'step')}, top-1 {row['top1']:.2f} %",),
    )


def _confusion(row: Row, classes: Sequence[str]) -> ResultTable:
    counts = row["confusion"]
    pairs = [
        (count, true, taken)
        for true, line in enumerate(counts)
        for taken, count in enumerate(line)
        if count and true != taken
    ]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    return ResultTable(
        "confusion",
        "most frequent mistakes",
        ("class", "taken for", "images", "of the class %"),
        tuple(
            (classes[true], classes[taken], count, 100 * count / sum(counts[true]))
            for count, true, taken in pairs[:MISTAKES]
        ),
    )


def _latency(row: Row, classes: Sequence[str]) -> ResultTable:
    found = row["latency"]
    threads = "" if found["threads"] is None else f", {_many(found['threads'], 'thread')}"
    return ResultTable(
        "latency",
        "latency and throughput",
        ("batch", "median ms", "p90 ms", "fastest ms", "images/s"),
        (
            (1, found["median_ms"], found["p90_ms"], found["fastest_ms"], 1e3 / found["median_ms"]),
            (
                found["batch_size"],
                1e3 * found["batch_size"] / found["images_per_second"],
                None,
                None,
                found["images_per_second"],
            ),
        ),
        (f"batch 1: {found['repeats']} runs{threads}",),
    )


def _robustness(row: Row, classes: Sequence[str]) -> ResultTable:
    # A document that was read back has its keys sorted.
    found = dict(sorted(row["robustness"].items()))
    meant = {
        "noise": "standard deviation",
        "blur": "standard deviation in 32nds of the shorter side",
        "contrast": "what is left of it",
    }
    strengths = {name: ", ".join(f"{each['strength']:g}" for each in values) for name, values in found.items()}
    return ResultTable(
        "robustness",
        "top-1 % on worse images, weakest first",
        ("images with", *(str(number) for number in range(1, 1 + max(map(len, found.values()))))),
        tuple((name, *(each["top1"] for each in values)) for name, values in found.items()),
        (
            *(f"{name} {strengths[name]}: {meant[name]}" for name in found),
            f"the images as they are: {row['top1']:.2f} %",
        ),
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


_TABLES: dict[str, Callable[[Row, Sequence[str]], ResultTable]] = {
    "calibration": _calibration,
    "beyond": _beyond,
    "early_exit": _early_exit,
    "activity": _activity,
    "energy": _energy,
    "confusion": _confusion,
    "latency": _latency,
    "robustness": _robustness,
}
