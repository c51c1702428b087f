"""Names that differ from torchvision's in one part: gates, SpikingJelly's containers and neurons."""

from __future__ import annotations

import pytest
from resnet_families import Size, Torchvision, answer

from idsnn_cli.families import NEURONS, recognise

Shapes = dict[str, tuple[int, ...]]
FULL = Size(depths=(2, 1, 2), widths=(4, 8, 16), kernel=7)


@pytest.mark.parametrize(
    ("reduce", "expand", "flat", "prefix"),
    [
        ("se.fc1", "se.fc2", False, ""),
        ("se.fc1", "se.fc2", True, ""),
        ("se.fc.0", "se.fc.2", True, ""),
        ("fc1", "fc2", False, ""),
        ("se_module.fc1", "se_module.fc2", False, ""),
        ("se_layer.conv1.conv", "se_layer.conv2.conv", False, "backbone."),
    ],
)
def test_gates_by_any_name(reduce: str, expand: str, flat: bool, prefix: str) -> None:
    shapes, names = answer(Torchvision(FULL), prefix)
    plain = recognise(shapes).architecture
    gates: Shapes = {}
    wanted = dict(names)
    for stage, (depth, width) in enumerate(zip(FULL.depths, FULL.widths, strict=True)):
        for block in range(depth):
            at, ours = f"{prefix}layer{stage + 1}.{block}", f"stages.{stage}.{block}.attention"
            for part, name, c_out, c_in in (("reduce", reduce, 2, width), ("expand", expand, width, 2)):
                gates[f"{at}.{name}.weight"] = (c_out, c_in) if flat else (c_out, c_in, 1, 1)
                gates[f"{at}.{name}.bias"] = (c_out,)
                wanted |= {f"{ours}.{part}.{leaf}": f"{at}.{name}.{leaf}" for leaf in ("weight", "bias")}
    found = recognise(shapes | gates)
    assert dict(found.names) == wanted
    assert (found.architecture.traits()["attention"], found.architecture.traits()["attention_sizes"]) == (
        "se",
        (2, 2, 2),
    )
    assert found.architecture.traits()["widths"] == plain.traits()["widths"]
    assert found.dropped == {}


@pytest.mark.parametrize("contained", [False, True], ids=["plain", "containers"])
def test_spikingjellys_neurons_and_containers(contained: bool) -> None:
    shapes, names = answer(Torchvision(FULL))

    def theirs(key: str) -> str:
        if not contained or not key.startswith("layer"):
            return key
        head, dot, part = key.partition(".downsample.")
        if dot:
            return f"{head}.downsample.0.{part}"
        stage, block, module, leaf = key.split(".")
        return f"{stage}.{block}.conv{module[-1]}.{int(module.startswith('bn'))}.{leaf}"

    neurons: Shapes = {"sn1.w": (), "layer1.0.sn1.w": (), "layer2.0.sn2.w": (), "layer2.0.downsample.1.w": ()}
    neurons["layer3.0.downsample_sn.w"] = ()  # as SpikingJelly 2.0 has it
    found = recognise({theirs(key): shape for key, shape in shapes.items()} | neurons)
    assert found.scheme == "spikingjelly"
    assert dict(found.names) == {name: theirs(key) for name, key in names.items()}
    assert set(found.dropped) == set(neurons)
    assert NEURONS in found.unknown
