"""Students as ONNX and as torch.export's programs: any batch, the same answers, and no graph that is constant."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from exchange_networks import images, network, saved
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.export.base import Compared, Images, Student, export
from idsnn_cli.export.onnx import FORMAT as ONNX
from idsnn_cli.export.pt2 import FORMAT as PT2
from idsnn_cli.models import Model

# The exporters speak of their own age.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{each}")
    for each in ("FutureWarning", "DeprecationWarning", "UserWarning", "torch.jit.TracerWarning")
]
SIDE = 32
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "thin": ("thin", {}),
    "max-pool, product, soft reset, half start": (
        "sew and",
        {"stem": "7x7", "neuron": Neuron(0.4, 0.5, reset="soft", start="half")},
    ),
    "learnt amplitudes": ("thin", {"amplitude": "channel", "shortcut": "pad"}),
    "vgg": ("vgg", {}),
    "learnt decays": ("learnt decays", {}),
    "learnt starts": ("thresholds by layer", {"learn_start": "channel", "neuron": Neuron(0.5, 1.0, reset="soft")}),
}


def case(name: str) -> Model:
    which, changed = CASES[name]
    return network(which, **changed)


def seen(count: int = 11) -> Images:
    return Images(images(count, SIDE), torch.zeros(count, dtype=torch.int64))


def written(folder: Path, model: Model, ending: str) -> tuple[Path, Compared]:
    target = folder / f"student{ending}"
    done = export(saved(folder, model), target, force=True, image_size=lambda: (SIDE, SIDE), images=seen)
    assert done.verified is not None
    (compared,) = done.verified
    return target, compared


Written = dict[str, tuple[Path, Compared]]


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The thin student in both forms: recording takes seconds."""
    folder = tmp_path_factory.mktemp("thin")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {ending: written(folder, network("thin"), ending) for ending in (".onnx", ".pt2")}


def made(thin: Written, folder: Path, name: str, ending: str) -> tuple[Path, Compared]:
    return thin[ending] if name == "thin" else written(folder, case(name), ending)


def run_onnx(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["images"]
    return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_onnx_answers_as_the_student_does(thin: Written, tmp_path: Path, name: str) -> None:
    """By onnxruntime, in float32, for batches of 8 and 3 (and of 1 here); a float64 student is rounded."""
    model = case(name)
    path, compared = made(thin, tmp_path, name, ".onnx")
    assert compared.reader.startswith("onnxruntime")
    assert (compared.left_out, compared.images, compared.dtype, compared.top1_equal) == (None, 11, "float32", 11)
    assert compared.largest is not None
    assert compared.largest < 1e-4
    single = model.float()
    for count in (1, 5):
        x = images(count, SIDE).float()
        with torch.no_grad():
            torch.testing.assert_close(run_onnx(path, x), single(x), rtol=0, atol=1e-4)
    proto = onnx.load(path)
    notes = {each.key: each.value for each in proto.metadata_props}
    assert (notes["timesteps"], proto.producer_name) == ("3", "idsnn-cli")
    assert not [node.op_type for node in proto.graph.node if node.domain]  # plain operations


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_program_answers_as_the_student_does(thin: Written, tmp_path: Path, name: str) -> None:
    model = case(name)
    path, compared = made(thin, tmp_path, name, ".pt2")
    assert (compared.left_out, compared.images, compared.dtype, compared.top1_equal) == (None, 11, "float64", 11)
    assert compared.largest is not None
    assert compared.largest < 1e-12
    program = torch.export.load(path).module()
    for count in (1, 4):
        torch.testing.assert_close(program(images(count, SIDE)), model(images(count, SIDE)), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_a_difference_is_seen(thin: Written) -> None:
    """The comparison could fail: another student's file differs, and its classes too."""
    other = network("thin")
    other.head.weight.data.neg_()
    for form, ending in ((ONNX, ".onnx"), (PT2, ".pt2")):
        path, _ = thin[ending]
        student = Student(other, path, {}, "", lambda: (SIDE, SIDE))
        (compared,) = form.verify(student, path, seen())
        assert compared.largest is not None
        assert compared.largest > 0.1
        assert compared.top1_equal == 0
        assert "the same class for 0 of 11" in compared.words()


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [pytest.param(True, marks=pytest.mark.slow), False])
def test_torchs_own_exporters_give_no_constant_graph(tmp_path: Path, dynamo: bool) -> None:
    """By the trace and by torch.export, of a network as load gives it: its parameters ask for gradients."""
    model, path = network("thin").float(), tmp_path / "x.onnx"
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    if dynamo:
        sizes: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},), "verbose": False}
    else:
        sizes = {"dynamic_axes": {"images": {0: "N"}, "logits": {1: "N"}}}
    torch.onnx.export(model, (images(2, SIDE).float(),), str(path), dynamo=dynamo, **names, **sizes)
    for count in (2, 5):
        x = images(count, SIDE).float()
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(run_onnx(path, x), expected, rtol=0, atol=1e-4)
    assert float(expected.std()) > 0.01


def test_random_spikes_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, network("poisson"))
    for ending in (".onnx", ".pt2"):
        with pytest.raises(UsageError, match="Poisson") as caught:
            export(source, tmp_path / f"out{ending}", image_size=lambda: (SIDE, SIDE))
        assert "--format nir" in str(caught.value.fix)
        assert not (tmp_path / f"out{ending}").exists()


@pytest.mark.slow
def test_forms_that_only_run_are_told_where_a_checkpoint_is_meant(thin: Written) -> None:
    for ending, words in ((".onnx", "an ONNX model by its name"), (".pt2", "a program of torch.export")):
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(thin[ending][0])
        assert words in caught.value.message
        assert caught.value.fix


@pytest.mark.slow
def test_a_damaged_onnx_file_is_no_answer(thin: Written, tmp_path: Path) -> None:
    """What would have run the comparison says so, and nothing is made up."""
    model, path = network("thin"), tmp_path / "x.onnx"
    content = thin[".onnx"][0].read_bytes()
    path.write_bytes(content[: len(content) // 2])
    student = Student(model, path, {}, "", lambda: (SIDE, SIDE))
    (compared,) = ONNX.verify(student, path, seen(2))
    assert compared.largest is None
    assert "it refuses the file" in str(compared.left_out)
