"""The page about JSON, docs/json.md, as the dataclasses of the documents say it: ``python tests/json_page.py``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from idsnn_cli.doctor.examination import Examination
from idsnn_cli.evaluation.accuracy import Evaluation, MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.measure import all_measures
from idsnn_cli.export.base import Exported
from idsnn_cli.pipeline.preview import Preview
from idsnn_cli.pipeline.pushing import Pushed
from idsnn_cli.pipeline.run import GridDone, NetworkSummary, RunDone
from idsnn_cli.pipeline.steps.base import StepResult, StepsDone
from idsnn_cli.report.inspect.checkpoint import Contents, PlannedStart
from idsnn_cli.report.inspect.comparison import Comparison
from idsnn_cli.report.inspect.layer_map import LayerMap
from idsnn_cli.report.inspect.tensor_statistics import Statistics
from idsnn_cli.report.runs.document import RunsDocument
from idsnn_cli.results import Key, Result, key_for, keys

PAGE = Path(__file__).parents[1] / "docs" / "json.md"
OPENING = """# JSON

With `--json` a command writes one document to stdout, and nothing else there: the keys below, and `command`, its name.
`idsnn eval` writes the same to `eval.json`, without `command` and with its keys sorted. Numbers are not rounded. This
page is made of the dataclasses that the documents are (`python tests/json_page.py`), and a test compares them.
"""
GRID = """With `--seeds` or `--vary` it is of the whole grid:"""
DRY_RUN = """Of every step, and of `run`. Of a grid it is `run_dir` and `grid`, a list of these, each with its `run` and
the folders of what it shares with others, by step."""
CLOSING = """## Failures

A failure prints `{"error": {"type", "message", "fix"}}`, and the exit code is 1 or 2. What `doctor`,
`inspect --exit-code` and `export --verify` find is no failure: they print their document, and end in 1.
"""


def page() -> str:
    """The whole page."""
    parts = [OPENING, "## idsnn eval", *_described(EvaluationDocument, skip={MeasuredNetwork})]
    parts += ["### Each of `results`", "One network's figures."]
    own = [each for each in keys(MeasuredNetwork) if each.name not in ("figures", "measures")]
    measures = all_measures()
    asked = [key_for(name, measure.found, measure.words) for name, measure in measures.items()]
    parts += [_table([*own, *keys(Evaluation)])]
    parts += [
        "Further a key for each measure that was asked for (`--measure`, `--full`, `eval.measure`). It is `null` where "
        "the measure needs time steps and the network is an ANN.",
        _table(asked),
    ]
    seen: set[type[Result]] = set()
    for key in asked:
        if key.nested is not None:
            parts += [f"### `{key.name}`", *_described(key.nested, seen=seen)]
    parts += ["## idsnn inspect FILE", *_described(Contents)]
    parts += ["## idsnn inspect FILE OTHER", *_described(Comparison, skip={Statistics})]
    parts += ["## idsnn inspect --plan FILE --to NAME", *_described(PlannedStart, skip={Statistics, LayerMap})]
    parts += [
        "## idsnn run",
        *_described(RunDone),
        GRID,
        *_described(GridDone, skip={StepResult, NetworkSummary}),
    ]
    parts += ["## idsnn teacher, pretrain, init, distill", *_described(StepsDone, skip={StepResult})]
    parts += ["## --dry-run", DRY_RUN, *_described(Preview)]
    parts += ["## idsnn report", *_described(RunsDocument)]
    parts += ["## idsnn export", *_described(Exported)]
    parts += ["## idsnn push", *_described(Pushed)]
    parts += ["## idsnn doctor", *_described(Examination), CLOSING]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _described(
    result: type[Result], seen: set[type[Result]] | None = None, skip: Iterable[type[Result]] = ()
) -> Iterator[str]:
    """A result's words and keys, and those of the results inside it."""
    seen = set() if seen is None else seen
    seen |= {result, *skip}
    yield _first_words(result)
    yield _table(list(keys(result)))
    for key in keys(result):
        if key.nested is not None and key.nested not in seen:
            yield f"#### {'Each of ' if 'of' in key.kind else ''}`{key.name}`"
            yield from _described(key.nested, seen)


def _first_words(result: type[Result]) -> str:
    return " ".join((result.__doc__ or "").split("\n\n")[0].split())


def _table(found: list[Key]) -> str:
    lines = ["| key | JSON | what it is |", "|---|---|---|"]
    lines += [f"| `{key.name}` | {_kind(key)} | {key.words.replace('|', chr(92) + '|')} |" for key in found]
    return "\n".join(lines)


def _kind(key: Key) -> str:
    """In words of JSON: a result is an object."""
    words = key.kind if key.nested is None else key.kind.replace(key.nested.__name__, "object")
    return words.replace("of object", "of objects")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
