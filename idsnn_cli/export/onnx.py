"""ONNX: the network in operations that most runtimes have, its neurons written out step by step."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import atomic_path
from idsnn_cli.export._comparing import Spikes, compare, left_out, reference
from idsnn_cli.export._programs import facts_of, recorded, require_recordable, told
from idsnn_cli.export.base import Compared, Format, Images, Student
from idsnn_cli.extras import missing
from idsnn_cli.version import __version__

# Of kernels and images alike: runtimes have no convolution in float64.
DTYPE = torch.float32


class Onnx(Format):
    """In float32, with a batch of any size; the input normalisation is inside."""

    suffixes = (".onnx",)
    key = "onnx"
    words = "operations that most runtimes have (ONNX)"
    sized = True
    extra = ("onnx", ("onnx", "onnxscript"))

    def require(self, architecture: Architecture, where: object) -> None:
        require_recordable(architecture, where)

    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        # The packages are installed by an extra.
        import onnx

        model, program = recorded(student, DTYPE)
        # The exporter tells what it is at, and torch and onnxscript what they think of each other's versions.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(program, input_names=["images"], output_names=["logits"], verbose=False)
        assert made is not None
        proto = made.model_proto
        facts = facts_of(model, student, DTYPE)
        onnx.checker.check_model(proto)
        facts |= {"opset": max(each.version for each in proto.opset_import if not each.domain)}
        facts |= {"operations": sorted({node.op_type for node in proto.graph.node})}
        proto.producer_name, proto.producer_version = "idsnn-cli", __version__
        notes = {"input": facts["input"], "readout": facts["readout"], "timesteps": str(facts["timesteps"])}
        onnx.helper.set_model_props(proto, notes | {"network": student.architecture.describe()})
        with atomic_path(target) as temporary:
            onnx.save_model(proto, temporary)
        return student.architecture.describe(), facts

    def tell(self, facts: Mapping[str, Any]) -> str:
        return f"{told(facts)} Opset {facts['opset']}: {', '.join(facts['operations'])}."

    def verify(self, student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
        if missing("onnxruntime"):
            why = "onnxruntime is not installed: pip install 'idsnn-cli[onnx]'"
            return (left_out("onnxruntime", seen, DTYPE, why),)
        import onnxruntime

        reader = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises kinds of its own
            return (left_out(reader, seen, DTYPE, f"it refuses the file: {' '.join(str(error).split())[:200]}"),)
        model = reference(student, DTYPE)

        @torch.no_grad()
        def ours(images: Tensor) -> tuple[Tensor, Spikes]:
            return model(images), {}

        def theirs(images: Tensor) -> tuple[Tensor, Spikes]:
            (logits,) = session.run(None, {"images": images.numpy()})
            return torch.from_numpy(logits), {}

        return (compare(reader, ours, theirs, seen, DTYPE),)


FORMAT = Onnx()
