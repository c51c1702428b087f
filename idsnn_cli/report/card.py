"""A network's card for the hub: what it is, what was measured, how it is loaded; Markdown behind YAML."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from idsnn_cli.architecture import Architecture
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.measure import all_measures
from idsnn_cli.report.markdown import as_words

LIBRARY = "idsnn"
TASK = "image-classification"
UNKNOWN_LICENCE = "unknown"  # the hub's own word
# What a network is, by the kind that its checkpoint says.
_MADE = {
    "student": "trained as a spiking network with idsnn",
    "baseline": "trained with idsnn from random weights, without a teacher",
    "teacher": "an ANN that teaches students of idsnn",
    "pretrain": "an ANN of a student's shape, trained with idsnn before it spikes",
    "init": "first weights that idsnn mapped from another network, not trained",
}
_MOST_CLASSES = 20


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says. ``repository`` is USER/REPO, ``metadata`` that of the checkpoint, ``data_on_hub`` the data
    set's name there and ``data_option`` what `idsnn eval --data` takes; ``evaluation`` and the row of it that is this
    network's are None where none was measured; ``origins`` are the published networks that it comes from, each with
    what it gave.
    """

    repository: str
    licence: str
    architecture: Architecture
    metadata: Mapping[str, Any]
    data_on_hub: str | None = None
    data_option: str | None = None
    evaluation: EvaluationDocument | None = None
    measured: MeasuredNetwork | None = None
    origins: tuple[tuple[str, Mapping[str, str]], ...] = ()

    @property
    def kind(self) -> str:
        return str(self.metadata.get("kind", "student"))

    @property
    def made(self) -> str:
        """How it came about, as far as the checkpoint says: one that a program saved says nothing of it."""
        provenance = self.metadata.get("provenance")
        if provenance is None:
            return "saved by a program with idsnn, and not told how it was made"
        if self.kind == "student" and self.metadata.get("metrics", {}).get("epoch") == 0:
            return "a spiking network that idsnn made of another, not trained as one"
        if self.kind == "baseline" and "teacher" in provenance.get("inputs", {}):
            return "trained with idsnn from random weights, with a teacher"
        return _MADE.get(self.kind, "made with idsnn")

    @property
    def data(self) -> str | None:
        """The data set's name, as far as the checkpoint says."""
        name = self.metadata.get("data", {}).get("name")
        return None if name is None else str(name)


def render_card(facts: CardFacts) -> str:
    """The whole README.md."""
    return f"---\n{_front_matter(facts)}---\n\n" + "\n\n".join(_parts(facts)) + "\n"


def _front_matter(facts: CardFacts) -> str:
    spikes = facts.architecture.spiking is not None
    head: dict[str, Any] = {
        "license": facts.licence,
        "library_name": LIBRARY,
        "pipeline_tag": TASK,
        "tags": ["idsnn", *(["spiking-neural-network", "snn"] if spikes else []), facts.architecture.family],
    }
    if facts.data_on_hub is not None:
        head["datasets"] = [facts.data_on_hub]
    if facts.measured is not None and facts.evaluation is not None:
        head["metrics"] = ["accuracy"]
        head["model-index"] = [
            {
                "name": facts.repository.partition("/")[2],
                "results": [
                    {
                        "task": {"type": TASK},
                        "dataset": {
                            "name": facts.evaluation.dataset,
                            "type": facts.data_on_hub or facts.evaluation.dataset,
                            "split": facts.evaluation.split,
                        },
                        "metrics": [{"type": "accuracy", "value": round(facts.measured.figures.top1 / 100, 6)}],
                    }
                ],
            }
        ]
    writer, text = YAML(typ="rt", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.dump(head, text)
    return text.getvalue()


def _parts(facts: CardFacts) -> Iterator[str]:
    architecture = facts.architecture
    yield f"# {as_words(facts.repository.partition('/')[2])}"
    yield f"{as_words(architecture.describe())}: {facts.made}."
    rows = [("task", f"image classification, {architecture.num_classes:,} classes"), ("data", _data_words(facts))]
    rows += [("time steps T", str(architecture.timesteps))] if architecture.spiking is not None else []
    rows += [("parameters", f"{architecture.parameters():,}"), ("licence", as_words(facts.licence))]
    rows += [(as_words(what), _origin_words(origin)) for what, origin in facts.origins]
    yield _table(("", ""), rows)
    yield from _accuracy(facts)
    yield from _energy(facts)
    yield from _loading(facts)
    yield from _making(facts)


def _data_words(facts: CardFacts) -> str:
    names = [str(each) for each in facts.metadata.get("data", {}).get("classes", ())]
    listed = ", ".join(names[:_MOST_CLASSES]) + (", ..." if len(names) > _MOST_CLASSES else "")
    return as_words(facts.data or "not known") + (f" ({as_words(listed)})" if names else "")


def _origin_words(origin: Mapping[str, str]) -> str:
    commit = f", commit `{origin['commit']}`" if "commit" in origin else ""
    return f"{as_words(origin.get('name', ''))}{commit}"


def _accuracy(facts: CardFacts) -> Iterator[str]:
    yield "## Accuracy"
    row, document = facts.measured, facts.evaluation
    if row is None or document is None:
        trained = facts.metadata.get("metrics", {})
        key = next((each for each in ("test_top1", "validation_top1") if isinstance(trained.get(each), float)), None)
        yield (
            "Not measured."
            if key is None
            else f"In training, after epoch {trained.get('epoch', '?')}: top-1 {trained[key]:.2f} % on the "
            f"{key.partition('_')[0]} images."
        )
        return
    where = f"{as_words(document.dataset)}, {document.images:,} {document.split} images"
    steps = row.figures.top1_by_step
    if row.kind == "ann":
        yield f"Top-1 {row.figures.top1:.2f} % ({where})."
        return
    yield f"Top-1 % of the mean logits after each time step ({where}):"
    yield _table(
        ("time steps", *(str(step) for step in range(1, len(steps) + 1))),
        [("top-1 %", *(f"{value:.2f}" for value in steps))],
    )


def _energy(facts: CardFacts) -> Iterator[str]:
    measure = all_measures().get("energy")
    found = None if facts.measured is None else facts.measured.measures.get("energy")
    if measure is None or found is None or facts.measured is None:
        return
    yield "## Energy"
    said = measure.table(found, facts.measured, ()).notes[0]
    yield f"{as_words(said[:1].upper() + said[1:])}."
    yield "\n".join(f"- {as_words(note)}" for note in measure.remarks(found))


def _loading(facts: CardFacts) -> Iterator[str]:
    name, spikes = f"hf://{facts.repository}", facts.architecture.spiking is not None
    data = f" --data {facts.data_option or 'NAME'}{_drawn(facts)}"
    yield "## Loading it"
    yield (f"```bash\npip install 'idsnn-cli[hub]'\nidsnn inspect {name}\nidsnn eval --checkpoint {name}{data}\n```")
    reads = "frames (N, T, C, H, W)" if facts.architecture.coding == "frames" else "images (N, C, H, W) in 0 to 1"
    gives = "(T, N, K), one answer after each time step" if spikes else "(N, K)"
    yield (
        "```python\n"
        "from idsnn_cli import load\n\n"
        f'model = load("{name}")  # a torch.nn.Module in evaluation mode, which normalises its input itself\n'
        f"logits = model(images)  # {reads} -> {gives}\n"
        "```"
    )


def _drawn(facts: CardFacts) -> str:
    """The overrides by which `idsnn eval` measures the images that the card's figures are of, where not all are."""
    recipe = facts.metadata.get("recipe") or {}
    data = recipe.get("data", {})
    if facts.measured is None or data.get("test_subset") is None:
        return ""
    seed = recipe.get("seed", 0) if data.get("seed") is None else data["seed"]
    return f" data.test_subset={data['test_subset']}" + (f" data.seed={seed}" if seed else "")


def _making(facts: CardFacts) -> Iterator[str]:
    versions = facts.metadata.get("versions", {})
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    yield "## How it was made"
    if not facts.metadata.get("recipe"):
        yield "The file does not say: it holds what the network is and how it normalises its input, and no recipe."
        return
    yield (
        "`recipe.yaml` is the recipe with every default (`idsnn run recipe.yaml`); the file's own metadata hold it, "
        "too, and where its weights came from" + (f". Versions: {as_words(listed)}." if listed else ".")
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
