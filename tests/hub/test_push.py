"""``idsnn push``: what goes to the hub, in one commit, and what the card says, against a stand-in on loopback."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from foreign_networks import save_torchvision
from hub_stand_in import TOKEN, StandIn
from invoking import Outcome, invoke, save_network

from idsnn_cli import load, save
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import file_sha256
from idsnn_cli.models import build
from idsnn_cli.pipeline.pushing import _origins
from idsnn_cli.recipe import load_recipe

Capture = pytest.CaptureFixture[str]
SPIKING = build_description("spiking-resnet8", 10, width=4, stem="7x7").changed(timesteps=2)
TINY = """
data: {dataset: digits, subset: 80, test_subset: 40, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 1, batch_size: 20}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 3}
distill: {epochs: 1, batch_size: 20, baseline: plain}
eval: {measure: [energy]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, which no test changes."""
    from idsnn_cli.pipeline.run import run_all
    from idsnn_cli.pipeline.run_directory import RunDirectory
    from idsnn_cli.pipeline.workspace import Workspace

    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yaml").write_text(TINY)
    loaded = load_recipe(folder / "tiny.yaml")
    run = RunDirectory(folder / "run", Workspace(loaded.recipe, loaded.name, loaded.text))
    with run.locked():
        run_all(run)
    return folder / "run"


@pytest.fixture(autouse=True)
def hub(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Whoever pushes has said who they are."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def card_of(text: str) -> Any:
    """The card as the hub's own client reads it."""
    from huggingface_hub import ModelCard

    return ModelCard(text)


def refused(outcome: Outcome, hub: StandIn, code: int = 1) -> str:
    """What the command said; nothing was committed."""
    assert outcome.code == code, outcome.out + outcome.err
    assert not [path for path in hub.paths("POST") if "/commit/" in path]
    return outcome.err


def test_a_run_becomes_one_commit(capsys: Capture, hub: StandIn, made: Path) -> None:
    done = invoke(capsys, "push", made, "hf://me/snn", "--license", "mit", "--json")
    assert done.code == 0, done.err
    repository = hub.repositories["me/snn"]
    assert len(repository.commits) == 2  # the repository's own first, and this
    assert set(repository.files) == {".gitattributes", "model.safetensors", "recipe.yaml", "README.md"}
    assert repository.files["model.safetensors"] == (made / "student.safetensors").read_bytes()
    pushed = done.document
    assert (pushed["commit"], pushed["created"], pushed["changed"]) == (repository.commits[-1][0], True, True)
    assert pushed["card"].encode() == repository.files["README.md"]
    assert {each["path"]: each["bytes"] for each in pushed["files"]} == {
        name: len(content) for name, content in repository.files.items() if name != ".gitattributes"
    }
    assert repository.messages[-1] == pushed["message"]
    assert not repository.private
    # Read back: the same network, by its name there.
    own, theirs = load(made / "student.safetensors"), load("hf://me/snn")
    assert all((theirs.state_dict()[key] == value).all() for key, value in own.state_dict().items())


def test_the_card_says_what_was_measured(capsys: Capture, made: Path) -> None:
    done = invoke(capsys, "push", made, "hf://me/snn", "--license", "mit", "--dry-run", "-q")
    row = next(each for each in json.loads((made / "eval.json").read_text())["results"] if each["name"] == "student")
    card = card_of(done.out)
    data = card.data.to_dict()
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("mit", "idsnn", "image-classification")
    assert "spiking-neural-network" in data["tags"]
    result = card.data.eval_results[0]
    assert (result.dataset_name, result.dataset_split, result.metric_type) == ("digits", "test", "accuracy")
    assert result.metric_value == pytest.approx(row["top1"] / 100)
    assert len(row["top1_by_step"]) == 3
    assert f"| top-1 % | {' | '.join(f'{value:.2f}' for value in row['top1_by_step'])} |" in done.out
    assert f"One image: {row['energy']['energy_uj']:.3f} uJ" in done.out
    assert "An estimate by convention (45 nm" in done.out
    assert "| time steps T | 3 |" in done.out
    # The command measures the images that the figures are of.
    assert "idsnn eval --checkpoint hf://me/snn --data digits data.test_subset=40\n" in done.out
    assert 'load("hf://me/snn")' in done.out
    assert str(made.parent) not in done.out


def test_data_that_the_hub_has_are_linked(capsys: Capture) -> None:
    recipe = {"seed": 3, "data": {"dataset": "cifar10"}, "distill": {"alpha": 0.3}}
    data = {"name": "cifar10", "classes": ["a|b", "c"]}
    save_network(Path("s.safetensors"), "student", SPIKING, recipe=recipe, data=data)
    shown = invoke(capsys, "push", "s.safetensors", "hf://me/snn", "--dry-run", "--json").document
    assert card_of(shown["card"]).data.datasets == ["uoft-cs/cifar10"]
    assert "cifar10 (a\\|b, c)" in shown["card"]
    assert card_of(shown["card"]).data.license == "unknown"
    # Nobody measured it: the card has what its training noted, and no result.
    assert card_of(shown["card"]).data.eval_results is None
    assert "In training, after epoch 2: top-1 91.50 % on the test images." in shown["card"]


def test_the_recipe_has_no_paths_and_loads_again(capsys: Capture, hub: StandIn, made: Path) -> None:
    copied = Path("run")
    shutil.copytree(made, copied)
    text = (copied / "resolved.yaml").read_text()
    changed = text.replace("root: null", f'root: "{copied.resolve()}/secret"', 1)
    (copied / "resolved.yaml").write_text(changed.replace("source: null", 'source: "hf://me/teacher"', 1))
    assert invoke(capsys, "push", copied, "hf://me/snn").code == 0
    sent = hub.repositories["me/snn"].files["recipe.yaml"].decode()
    assert sent.startswith("# Left out, for they name files of one machine: data.root.\n")
    assert "secret" not in sent
    assert 'source: "hf://me/teacher"' in sent
    Path("again.yaml").write_text(sent)
    recipe = load_recipe(Path("again.yaml")).recipe
    assert recipe.student.timesteps == 3
    assert str(recipe.init.source) == "hf://me/teacher"


def test_a_dry_run_asks_nothing(capsys: Capture, hub: StandIn, made: Path) -> None:
    done = invoke(capsys, "push", made, "hf://me/snn", "--dry-run", "--private", "--message", "first")
    assert done.code == 0
    assert done.out.startswith("---\nlicense: unknown\n")
    assert "Would send to hf://me/snn, in one commit: model.safetensors (" in done.err
    assert "Nothing was sent." in done.err
    document = invoke(capsys, "push", made, "hf://me/snn", "--dry-run", "--private", "--message", "first", "--json")
    assert document.document["commit"] is None
    assert (document.document["message"], document.document["private"]) == ("first", True)
    assert hub.asked == []


@pytest.mark.parametrize(("network", "kind"), [("teacher", "teacher"), ("baseline", "baseline")])
def test_other_networks_of_a_run(capsys: Capture, made: Path, network: str, kind: str) -> None:
    shown = invoke(capsys, "push", made, "hf://me/net", "--network", network, "--dry-run", "--json").document
    assert shown["network"] == kind
    assert shown["source"].endswith(f"{network}.safetensors")
    assert ("-> (N, K)" in shown["card"]) == (kind == "teacher")
    assert ("spiking-neural-network" in shown["card"]) == (kind != "teacher")


def test_what_was_there_is_replaced_in_one_commit_and_told(capsys: Capture, hub: StandIn, made: Path) -> None:
    hub.repository("me/snn", {"README.md": b"# mine", "notes.txt": b"kept"})
    done = invoke(capsys, "push", made, "hf://me/snn")
    assert done.code == 0, done.err
    assert "replaced: README.md (the hub keeps the earlier commits)" in done.out
    repository = hub.repositories["me/snn"]
    assert repository.files["notes.txt"] == b"kept"
    assert len(repository.commits) == 2
    again = invoke(capsys, "push", made, "hf://me/snn", "--json").document
    assert (again["changed"], again["commit"]) == (False, repository.commits[-1][0])
    assert len(repository.commits) == 2
    assert "The same files were there already." in invoke(capsys, "push", made, "hf://me/snn").out


@pytest.mark.parametrize("lfs", [True, False])
def test_large_files_by_either_way(capsys: Capture, hub: StandIn, made: Path, lfs: bool) -> None:
    hub.lfs = lfs
    assert invoke(capsys, "push", made, "hf://me/snn").code == 0
    assert bool(hub.stored) is lfs
    assert hub.repositories["me/snn"].files["model.safetensors"] == (made / "student.safetensors").read_bytes()


def test_private_is_for_a_repository_that_is_made(capsys: Capture, hub: StandIn, made: Path) -> None:
    assert invoke(capsys, "push", made, "hf://me/own", "--private").code == 0
    assert hub.repositories["me/own"].private
    hub.asked.clear()
    hub.repository("me/open")
    error = refused(invoke(capsys, "push", made, "hf://me/open", "--private"), hub, 2)
    assert "is there already, and public" in error


@pytest.mark.slow
def test_refusals_of_the_hub_change_nothing(
    capsys: Capture, hub: StandIn, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    error = refused(invoke(capsys, "push", made, "hf://me/snn"), hub)
    assert "the hub refuses this account (HTTP 401" in error
    assert "HF_TOKEN to a token that may write to it" in error
    assert "me/snn" not in hub.repositories
    hub.repository("other/snn", {"README.md": b"theirs"})
    assert "refuses this account (HTTP 403: you may not write here)" in refused(
        invoke(capsys, "push", made, "hf://other/snn"), hub
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for part, fault, words in (
        ("/commit/", 500, "the hub answers with HTTP 500; whether the commit was made is not known"),
        ("/commit/", 412, "was changed by another meanwhile, or is another's; nothing in it was changed"),
        ("/preupload/", 503, "the hub answers with HTTP 503; nothing in it was changed"),
        ("/objects/batch", 429, "too many requests from here; nothing in it was changed"),
        ("/upload/", 403, "the hub refuses this account (HTTP 403: as the test wants it); nothing in it was changed"),
    ):
        hub.faults = {part: fault}
        done = invoke(capsys, "push", made, "hf://other/snn", "--json")
        assert done.code == 1
        assert done.document["error"]["type"] == "HubError"
        assert words in done.document["error"]["message"]
        assert hub.repositories["other/snn"].files == {"README.md": b"theirs"}
    hub.faults = {"/commit/": 403}
    done = invoke(capsys, "push", made, "hf://me/new")
    assert done.code == 1
    assert "the repository was made for it, and is empty" in done.err
    assert hub.repositories["me/new"].files == {".gitattributes": b""}


def test_a_file_that_goes_away_meanwhile(
    capsys: Capture, hub: StandIn, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from idsnn_cli.hub import publishing

    whole = publishing.look
    Path("s.safetensors").write_bytes((made / "student.safetensors").read_bytes())

    def looked(repo: str) -> publishing.Remote:
        Path("s.safetensors").unlink()
        return whole(repo)

    monkeypatch.setattr("idsnn_cli.pipeline.pushing.look", looked)
    error = refused(invoke(capsys, "push", "s.safetensors", "hf://me/snn"), hub)
    assert "hf://me/snn could not be published" in error
    assert "s.safetensors' is not a file" in error
    assert "me/snn" not in hub.repositories


def test_somebody_elses_commit_in_between_is_not_overwritten(
    capsys: Capture, hub: StandIn, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from idsnn_cli.hub import publishing

    repository = hub.repository("me/snn", {"README.md": b"before"})
    whole = publishing.look

    def looked(repo: str) -> publishing.Remote:
        found = whole(repo)
        repository.add({"README.md": b"theirs"})
        return found

    monkeypatch.setattr("idsnn_cli.pipeline.pushing.look", looked)
    done = invoke(capsys, "push", made, "hf://me/snn")
    assert done.code == 1
    assert "was changed by another meanwhile, or is another's; nothing in it was changed" in done.err
    assert repository.files == {"README.md": b"theirs"}


def test_without_a_connection(capsys: Capture, hub: StandIn, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, so the hub is not asked" in refused(invoke(capsys, "push", made, "hf://me/snn"), hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub is not reached" in refused(invoke(capsys, "push", made, "hf://me/snn"), hub)


def test_an_upload_by_xet_that_fails_says_how_to_do_without(
    capsys: Capture, hub: StandIn, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xet's client is compiled: its errors are RuntimeErrors that only their caller tells apart."""

    class Client:
        def __init__(self, client: Any) -> None:
            self.client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self.client, name)

        def create_commit(self, *_words: Any, **_more: Any) -> None:
            self._upload_xet_files()

        def _upload_xet_files(self) -> None:
            raise RuntimeError("Data processing error: CAS service error : error sending request")

    from idsnn_cli.hub import client

    modules = [import_module(f"huggingface_hub.{name}") for name in ("_commit_api", "file_download")]
    assert all(any(hasattr(module, name) for module in modules) for name in client._XET)
    theirs = client.api()
    monkeypatch.setattr("idsnn_cli.hub.publishing.api", lambda: Client(theirs))
    said = refused(invoke(capsys, "push", made, "hf://me/snn"), hub)
    assert "by Xet: Data processing error" in said
    assert "HF_HUB_DISABLE_XET=1" in said


def test_what_cannot_be_pushed(capsys: Capture, hub: StandIn, made: Path, tmp_path: Path) -> None:
    save_torchvision(Path("theirs.pth"), build_description("resnet18", 10, width=4, stem="3x3"))
    save_network(Path("ours.safetensors"), "student", SPIKING)
    Path("empty").mkdir()
    for code, words, said in (
        (2, (made, "me/snn/x.bin"), "names a file or a revision"),
        (2, (made, "hf://me/snn@v1"), "names a file or a revision"),
        (2, (made, "hf://snn"), "names no file on the hub"),
        (2, (made, "hf://me/snn", "--network", "studnt"), "Did you mean 'student'?"),
        (2, (made, "hf://me/snn", "--license", "my own: licence"), "is no name of a licence"),
        (2, ("ours.safetensors", "hf://me/snn", "--network", "student"), "--network chooses among"),
        (1, (made, "hf://me/snn", "--network", "pretrain"), "holds no pretrain; it holds"),
        (1, ("nowhere", "hf://me/snn"), "nowhere is not there"),
        (1, ("empty", "hf://me/snn"), "holds no run of idsnn"),
        (1, ("theirs.pth", "hf://me/snn"), "is not a checkpoint of idsnn"),
    ):
        assert said in refused(invoke(capsys, "push", *words), hub, code)
    assert hub.asked == []


def test_only_what_the_run_wrote_and_measured(capsys: Capture, hub: StandIn, made: Path) -> None:
    copied = Path("run")
    shutil.copytree(made, copied)
    document = json.loads((copied / "eval.json").read_text())
    document["results"][0]["top1"] = 100.0
    (copied / "eval.json").write_text(json.dumps(document))
    shown = invoke(capsys, "push", copied, "hf://me/snn", "--dry-run")
    assert "holds no figures of this student, so its card has none" in shown.err
    assert "model-index" not in shown.out
    shutil.copy(copied / "baseline.safetensors", copied / "student.safetensors")
    assert "is not what the distill step wrote" in refused(invoke(capsys, "push", copied, "hf://me/snn"), hub)
    records = json.loads((copied / "steps.json").read_text())
    records["distill"]["status"] = "started"
    (copied / "steps.json").write_text(json.dumps(records))
    assert "the step distill has not come to its end" in refused(invoke(capsys, "push", copied, "hf://me/snn"), hub)


def test_where_weights_come_from_is_said(capsys: Capture) -> None:
    source = {"name": "timm:resnet18.a1_in1k", "repository": "timm/x", "commit": "c" * 40, "file": "model.safetensors"}
    save_network(Path("s.safetensors"), "student", SPIKING, provenance={"start": {"source": source}})
    shown = invoke(capsys, "push", "s.safetensors", "hf://me/snn", "--dry-run", "-q").out
    assert f"| weights from | timm:resnet18.a1\\_in1k, commit `{'c' * 40}` |" in shown


def test_a_network_that_a_program_saved_is_not_called_trained(capsys: Capture, hub: StandIn) -> None:
    """It has neither a recipe nor a word about its making, and so has what is pushed."""
    save(build(SPIKING, 1).eval(), "s.safetensors")
    assert invoke(capsys, "push", "s.safetensors", "hf://me/snn").code == 0
    files = hub.repositories["me/snn"].files
    assert set(files) == {".gitattributes", "model.safetensors", "README.md"}
    card = files["README.md"].decode()
    assert "saved by a program with idsnn, and not told how it was made." in card
    assert "trained" not in card
    assert "recipe.yaml" not in card
    assert "idsnn eval --checkpoint hf://me/snn --data NAME" in card


@pytest.mark.parametrize(
    ("kind", "told", "words"),
    [
        ("student", {"metrics": {"epoch": 0, "test_top1": 50.0}}, "made of another, not trained as one"),
        ("student", {}, "trained as a spiking network with idsnn"),
        ("baseline", {"provenance": {"start": {}, "inputs": {"teacher": "0"}}}, "random weights, with a teacher"),
        ("baseline", {"provenance": {"start": {}, "inputs": {}}}, "random weights, without a teacher"),
    ],
)
def test_a_card_says_whether_it_was_trained_and_by_whom(
    capsys: Capture, kind: str, told: dict[str, Any], words: str
) -> None:
    save_network(Path("s.safetensors"), kind, SPIKING, **told)
    assert words in invoke(capsys, "push", "s.safetensors", "hf://me/snn", "--dry-run", "-q").out


def test_the_runs_teacher_is_named_only_by_what_it_had_a_part_in(made: Path) -> None:
    """The baseline of random weights and a plain loss has nothing of it, the student its weights and its answers."""
    run = Path("run")
    shutil.copytree(made, run)
    source = {"name": "torchvision:resnet18"}
    ann = build_description("resnet8", 10, width=4)
    save_network(run / "teacher.safetensors", "teacher", ann, provenance={"source": source})
    teacher, start = (file_sha256(run / f"{name}.safetensors") for name in ("teacher", "init"))
    mapped = {"rule": "loop", "source_tensors_sha256": "0"}
    for provenance, expected in (
        ({"start": {}, "inputs": {}}, []),
        ({"start": {}, "inputs": {"teacher": teacher}}, ["teacher from"]),
        ({"start": {}, "inputs": {"teacher": "0"}}, []),
        ({"start": mapped, "inputs": {"start": start, "teacher": teacher}}, ["weights from", "teacher from"]),
        ({"start": mapped, "inputs": {"start": start}}, ["weights from"]),
        ({"start": mapped, "inputs": {"start": "0"}}, []),
        (mapped, ["weights from"]),
        ({"start": mapped | {"source": {"name": "timm:x"}}, "inputs": {"start": start}}, ["weights from"]),
    ):
        found = _origins({"kind": "student", "provenance": provenance}, run)
        assert [what for what, _ in found] == expected
    assert found[0][1] == {"name": "timm:x"}
