"""``idsnn init --from``: any ResNet's weights into a student, without a recipe or a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from foreign_networks import save_torchvision
from invoking import Outcome, invoke
from tiny_runs import contents, distill_step, metadata_of, open_run, teacher_step, weights_of, write_recipe

from idsnn_cli import initialize, load
from idsnn_cli.architecture import build_description
from idsnn_cli.initializer import Plan, Rules

Capture = pytest.CaptureFixture[str]
OUT = Path("init.safetensors")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a teacher of ours and a foreign one."""
    monkeypatch.chdir(tmp_path)
    save_torchvision(Path("foreign.pth"), build_description("resnet32", 10, width=8, stem="7x7"))
    return tmp_path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained teacher of ours."""
    folder = tmp_path_factory.mktemp("teacher")
    teacher_step(open_run(write_recipe(folder), folder))
    return folder / "teacher.safetensors"


def init(capsys: Capture, source: Path | str, *words: str | Path, arch: str = "spiking-resnet14") -> Outcome:
    return invoke(capsys, "init", "--from", source, "--arch", arch, "-o", OUT, *words)


def state(path: Path) -> dict[str, torch.Tensor]:
    return load(path).state_dict()


def test_one_of_ours_starts_a_student(capsys: Capture, teacher: Path) -> None:
    found = init(capsys, teacher, "student.width=6", "--json")
    assert found.code == 0
    document = found.document
    assert (document["command"], document["run_dir"]) == ("init", None)
    assert document["steps"][0]["outputs"] == ["init.safetensors"]
    assert sorted(path.name for path in Path().iterdir()) == ["foreign.pth", "init.safetensors"]
    ours, theirs = state(OUT), state(teacher)
    taken = theirs["stages.0.0.conv0.weight"]
    loop = torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.equal(ours["stages.0.1.conv0.weight"], taken[loop][:, loop])
    assert torch.equal(ours["input.mean"], theirs["input.mean"])
    described = metadata_of(OUT)
    assert described["architecture"]["stem"] == "7x7"
    assert described["architecture"]["timesteps"] == 4
    assert "data" not in described["recipe"]
    assert Plan.from_dict(described["mapping"]).source == load(teacher).architecture


def test_overrides_change_the_student_and_the_rules(capsys: Capture) -> None:
    words = ["student.timesteps=6", "student.v_threshold=1", "init.blocks=first", "student.width=8"]
    assert init(capsys, "foreign.pth", *words, "--normalise", "cifar10").code == 0
    described = metadata_of(OUT)
    assert described["architecture"]["timesteps"] == 6
    assert described["architecture"]["neuron"]["v_threshold"] == 1
    assert [block.get("source_block") for block in described["mapping"]["blocks"]] == [0, 1] * 3
    start = initialize(
        "foreign.pth",
        load(OUT).architecture,
        rules=Rules(blocks="first"),
        normalise=((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    )
    ours = state(OUT)
    for name in ("stem.conv.weight", "stages.2.1.conv1.weight", "stages.1.1.norm0.running_var"):
        assert torch.equal(ours[name], start.state[name])
    assert ours["input.mean"].flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])


def test_without_a_named_normalisation_imagenets_is_taken_and_said(capsys: Capture) -> None:
    found = init(capsys, "foreign.pth")
    assert found.code == 0
    assert "ImageNet's" in found.err
    assert state(OUT)["input.std"].flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_the_same_words_write_the_same_bytes(capsys: Capture) -> None:
    init(capsys, "foreign.pth", "seed=4")
    first, weights = OUT.read_bytes(), weights_of(OUT)
    Path("elsewhere").mkdir()
    Path("foreign.pth").rename("elsewhere/renamed.pth")
    assert init(capsys, "elsewhere/renamed.pth", "seed=4", "--force").code == 0
    assert OUT.read_bytes() == first
    assert init(capsys, "elsewhere/renamed.pth", "seed=5", "--force").code == 0
    assert weights_of(OUT)["head.weight"] != weights["head.weight"]
    assert weights_of(OUT)["stem.conv.weight"] == weights["stem.conv.weight"]


def test_a_torchvision_resnet_starts_the_papers_student(capsys: Capture) -> None:
    torch.manual_seed(0)
    source = torchvision.models.resnet18().state_dict()
    torch.save(source, "resnet18.pth")
    found = init(capsys, "resnet18.pth", "--num-classes", "100", arch="spiking-resnet18")
    assert found.code == 0
    student = load(OUT)
    assert student.architecture == build_description("spiking-resnet18", 100, stem="7x7", timesteps=4)
    ours = student.state_dict()
    assert torch.equal(ours["stages.3.1.conv1.weight"], source["layer4.1.conv2.weight"])
    assert torch.equal(ours["stages.1.0.shortcut.norm.running_var"], source["layer2.0.downsample.1.running_var"])
    assert ours["head.weight"].shape == (100, 512)
    with torch.no_grad():
        assert student(torch.rand(1, 3, 32, 32)).shape == (4, 1, 100)


def test_batchnorm_may_be_re_estimated_on_named_data(capsys: Capture) -> None:
    words = ["data.dataset=digits", "data.subset=64", "init.reestimate=2", "distill.batch_size=32"]
    refused = init(capsys, "foreign.pth", "init.reestimate=2")
    assert refused.code == 2
    assert "data.dataset=NAME" in refused.err
    assert init(capsys, "foreign.pth").code == 0
    copied = state(OUT)
    assert init(capsys, "foreign.pth", *words, "--force").code == 0
    ours = state(OUT)
    assert torch.equal(ours["stem.conv.weight"], copied["stem.conv.weight"])
    assert not torch.equal(ours["stem.norm.running_mean"], copied["stem.norm.running_mean"])
    assert metadata_of(OUT)["provenance"]["reestimated_batches"] == 2
    assert metadata_of(OUT)["recipe"]["data"]["dataset"] == "digits"


def test_merging_needs_images_only_where_it_narrows(capsys: Capture, teacher: Path) -> None:
    words = ["--rule", "best", "--reestimate", "0"]
    for width in (4, 6):
        assert init(capsys, teacher, f"student.width={width}", *words, "--force").code == 0
        described = metadata_of(OUT)
        assert described["mapping"]["rules"]["channels"] == "merge"
        assert "data" not in described
        assert "data" not in described["recipe"]
    refused = init(capsys, teacher, "student.width=3", *words, "--force")
    assert refused.code == 2
    assert "training images are needed by channels: merge" in refused.err
    also = init(capsys, teacher, "student.width=4", "--rule", "best", "--force")
    assert "needed by re-estimating BatchNorm (reestimate)\n" in also.err


@pytest.mark.parametrize(
    ("words", "looked"),
    [
        (["--rescale", "variance"], False),
        (["--rescale", "threshold"], True),
        (["--channels", "merge"], False),
        (["--channels", "merge", "student.width=3"], True),
    ],
    ids=str,
)
def test_data_that_had_a_part_in_it_is_named_in_it(
    capsys: Capture, teacher: Path, words: list[str], looked: bool
) -> None:
    data = ("data.dataset=digits", "data.subset=64", "init.images=32")
    width = [] if any(word.startswith("student.width") for word in words) else ["student.width=4"]
    assert init(capsys, teacher, *width, *data, *words).code == 0
    assert ("data" in metadata_of(OUT)) is looked


def test_what_it_writes_starts_a_distillation(capsys: Capture, teacher: Path) -> None:
    init(capsys, teacher, "student.width=4", "student.timesteps=2", arch="spiking-resnet8")
    session = open_run(write_recipe(Path()), Path("run"))
    distill_step(session, teacher=teacher, student=OUT)
    provenance = metadata_of(Path("run/student.safetensors"))["provenance"]
    assert provenance["start"] == metadata_of(OUT)["provenance"]


def test_what_is_there_is_replaced_by_force_only(capsys: Capture, teacher: Path) -> None:
    OUT.write_bytes(b"precious")
    for extra in ([], ["--dry-run"]):
        found = init(capsys, teacher, *extra)
        assert found.code == 1
        assert "--force" in found.err
        assert OUT.read_bytes() == b"precious"
    assert init(capsys, teacher, "--force").code == 0
    assert load(OUT).architecture.kind == "spiking"
    own = invoke(capsys, "init", "--from", OUT, "--arch", "spiking-resnet14", "-o", OUT, "--force")
    assert own.code == 2
    assert "read and replaced" in own.err


FROM: dict[str, Any] = {
    "no arch": (["--from", "foreign.pth", "-o", OUT], 2, "--arch"),
    "no output": (["--from", "foreign.pth", "--arch", "spiking-resnet14"], 2, "-o FILE"),
    "a recipe too": (["quickstart", "--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT], 2, "quickstart"),
    "a run directory too": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "--run-dir", "r"],
        2,
        "--run-dir",
    ),
    "a teacher too": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "--teacher", "foreign.pth"],
        2,
        "--teacher",
    ),
    "a source too": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "init.source=foreign.pth"],
        2,
        "init.source",
    ),
    "another name": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "student.arch=spiking-resnet8"],
        2,
        "student.arch",
    ),
    "a training": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "distill.lr=1"],
        2,
        "nothing would read it",
    ),
    "a part of no data": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "data.subset=9"],
        2,
        "data.dataset=NAME",
    ),
    "no such file": (["--from", "gone.pth", "--arch", "spiking-resnet14", "-o", OUT], 1, "gone.pth"),
    "no ResNet": (["--from", "linear.pth", "--arch", "spiking-resnet14", "-o", OUT], 1, "not a ResNet"),
    "a page": (["--from", "page.pth", "--arch", "spiking-resnet14", "-o", OUT], 1, "HTML"),
    "no such network": (["--from", "foreign.pth", "--arch", "spiking-resnet15", "-o", OUT], 2, "Did you mean"),
    "an ANN": (["--from", "foreign.pth", "--arch", "resnet14", "-o", OUT], 2, "spiking-resnet14"),
    "other blocks": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "--blocks", "[[0,9],[0,1],[0,1]]"],
        1,
        "blocks gives [0, 9] for stage 0",
    ),
    "rules that need images": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "--rule", "best"],
        2,
        "training images are needed by",
    ),
    "other classes": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "--num-classes", "7", "init.head=copy"],
        1,
        "10 classes",
    ),
    "a mistyped override": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "student.timestep=6"],
        2,
        "timesteps",
    ),
    "no such folder": (["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", "no/x"], 1, "folder"),
    "a folder": (["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", ".", "--force"], 1, "it is a folder"),
    "no source needed": (
        ["--from", "foreign.pth", "--arch", "spiking-resnet14", "-o", OUT, "init.rule=none"],
        2,
        "init.rule none",
    ),
    "arch alone": (["quickstart", "--arch", "spiking-resnet14"], 2, "--from"),
}


@pytest.mark.parametrize("case", FROM)
def test_what_cannot_be_done_says_so_and_writes_nothing(capsys: Capture, case: str) -> None:
    words, code, said = FROM[case]
    torch.save(torch.nn.Linear(3, 4).state_dict(), "linear.pth")
    Path("page.pth").write_text("<!DOCTYPE html><html></html>")
    before = contents(Path())
    for extra in ([], ["--dry-run"]):
        found = invoke(capsys, "init", *words, *extra, "--json")
        assert (found.code, said in found.err) == (code, True), found.err
        assert found.document["error"]["fix"]
        assert contents(Path()) == before


def test_a_normalisation_that_the_source_carries_cannot_be_named_again(capsys: Capture, teacher: Path) -> None:
    for words in (["--normalise", "imagenet"], ["teacher.normalise=imagenet"]):
        found = init(capsys, teacher, *words)
        assert found.code == 2
        assert "carries its own" in found.err
    own = "teacher.normalise={mean: [0.1, 0.2, 0.3], std: [0.5, 0.5, 0.5]}"
    assert init(capsys, "foreign.pth", own).code == 0
    assert state(OUT)["input.mean"].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_a_source_without_a_head_needs_the_classes(capsys: Capture) -> None:
    state = torch.load("foreign.pth", weights_only=True)["state_dict"]
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, "body.pth")
    found = init(capsys, "body.pth")
    assert found.code == 2
    assert "--num-classes" in found.err
    assert init(capsys, "body.pth", "--num-classes", "7").code == 0
    assert load(OUT).architecture.num_classes == 7
