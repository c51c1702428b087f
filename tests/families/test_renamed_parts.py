"""Files of which a table knows nearly all: a linear layer elsewhere, modules of other names, several networks."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from resnet_families import BUILDERS, Size, Torchvision, answer

from idsnn_cli.errors import FamilyError
from idsnn_cli.families import AVERAGED_SHORTCUTS, Reading, Row, Scheme, recognise

Shapes = dict[str, tuple[int, ...]]
SIZE = Size(depths=(2, 1, 2), widths=(4, 8, 16))
DEEP = Size(bottleneck=True, depths=(1, 2, 1), widths=(4, 8, 16), kernel=7)
BASE, NAMES = answer(Torchvision(SIZE))
HEAD = {"weight": (7, 16), "bias": (7,)}


def body(prefix: str = "") -> Shapes:
    return {prefix + key: shape for key, shape in BASE.items() if not key.startswith("fc.")}


def head(module: str) -> Shapes:
    return {f"{module}.{leaf}": shape for leaf, shape in HEAD.items()}


def renamed(rename: Callable[[str], str], shapes: Shapes = BASE) -> tuple[Shapes, dict[str, str]]:
    """The shapes under other names, and what each canonical name is called then."""
    return {rename(key): shape for key, shape in shapes.items()}, {name: rename(key) for name, key in NAMES.items()}


@pytest.mark.parametrize(
    ("prefix", "module"),
    [
        ("backbone.", "fc"),
        ("state_dict.backbone.", "state_dict.fc"),
        ("model.", "classifier"),
        ("encoder.", "head"),
        ("state_dict.model.encoder.", "state_dict.model.classifier.2"),
        ("backbone.", "fc.1"),
        ("backbone.", "backbone.fc.1"),
        ("feature_maker.", "linear"),
        ("", "fc.1"),
        ("", "head.fc"),
        ("", "classifier.2"),
        ("module.", "module.my_layer"),
    ],
)
def test_a_linear_layer_elsewhere_is_found(prefix: str, module: str) -> None:
    found = recognise(body(prefix) | head(module))
    assert found.has_head
    assert found.architecture.num_classes == 7
    wanted = {name: prefix + key for name, key in NAMES.items() if not name.startswith("head.")}
    assert found.names == wanted | {f"head.{leaf}": f"{module}.{leaf}" for leaf in HEAD}
    assert found.dropped == {}
    assert f"'{module}" in " ".join(found.notes)


def test_what_is_no_single_linear_layer_is_not_read_as_one() -> None:
    two: Shapes = {"fc.0.weight": (32, 16), "fc.0.bias": (32,), "fc.2.weight": (7, 32), "fc.2.bias": (7,)}
    beside = recognise(body("backbone.") | two)
    assert not beside.has_head
    assert beside.ending == "ends in no single linear layer (beside it are 'fc.0', 'fc.2')"
    with pytest.raises(FamilyError, match=r"'fc\.0' \(weight, bias\), 'fc\.2' \(weight, bias\)"):
        recognise(body() | two)
    allowed = recognise(body() | two, Reading(allow_unused=True))
    assert not allowed.has_head
    assert "4 tensors are left out, as is allowed: 'fc.0'" in " ".join(allowed.notes)
    # A projector for another purpose reads the same features.
    projector = recognise(body("backbone.") | {"projector.0.weight": (16, 16), "projector.0.bias": (16,)})
    assert not projector.has_head


@pytest.mark.parametrize("extra", [{f"neck.{leaf}": (16,) for leaf in HEAD}, {"act.weight": (1,)}], ids=["norm", "act"])
def test_what_may_stand_before_the_linear_layer_is_refused(extra: Shapes) -> None:
    if "neck.weight" in extra:
        extra |= {"neck.running_mean": (16,), "neck.running_var": (16,)}
    with pytest.raises(FamilyError, match="may stand between the network and its linear layer 'fc'"):
        recognise(body("backbone.") | head("fc") | extra)
    assert not recognise(body("backbone.") | head("fc") | extra, Reading(root="backbone")).has_head


def test_a_tensor_that_is_stored_twice_is_one() -> None:
    shapes = BASE | head("classifier") | {"layer1.0.again.weight": BASE["layer1.0.conv1.weight"]}
    twins = {"classifier": "fc", "layer1.0.again": "layer1.0.conv1"}

    def alike(key: str, other: str) -> bool:
        module, _, leaf = key.rpartition(".")
        return f"{twins.get(module)}.{leaf}" == other

    found = recognise(shapes, alike=alike)
    assert dict(found.names) == NAMES
    assert found.dropped == {
        "classifier.weight": "the same values as 'fc.weight'",
        "classifier.bias": "the same values as 'fc.bias'",
        "layer1.0.again.weight": "the same values as 'layer1.0.conv1.weight'",
    }
    with pytest.raises(FamilyError, match="not explained"):
        recognise(shapes)
    # Under two names that nobody knows.
    both = body() | head("one") | head("other")
    assert recognise(both, alike=lambda a, b: a.split(".")[-1] == b.split(".")[-1]).has_head
    with pytest.raises(FamilyError, match=r"'one' .*'other'"):
        recognise(both)


def stem(key: str) -> str:
    return {"conv1": "conv", "bn1": "bn"}.get(key.split(".")[0], key.split(".")[0]) + key[len(key.split(".")[0]) :]


RENAMES: dict[str, Callable[[str], str]] = {
    "stem": stem,
    "head": lambda key: key.replace("fc.", "answer."),
    "shortcuts": lambda key: key.replace("downsample", "skip"),
    "kuangliu's shortcuts": lambda key: key.replace("downsample", "shortcut"),
    "stem, head and shortcuts": lambda key: stem(key).replace("downsample", "skip").replace("fc.", "out."),
    "norms": lambda key: key.replace("bn", "norm"),
    "convolutions of a block": lambda key: key.replace("layer2.0.conv", "layer2.0.c"),
    "a norm": lambda key: key.replace("layer2.0.bn1", "layer2.0.oddity"),
    "a convolution": lambda key: key.replace("layer3.1.conv2", "layer3.1.last"),
}


@pytest.mark.parametrize("ordered", [True, False], ids=["in order", "shuffled"])
@pytest.mark.parametrize("name", RENAMES)
def test_modules_of_other_names_are_found_in_any_order(name: str, ordered: bool) -> None:
    shapes, names = renamed(RENAMES[name])
    if not ordered:
        keys = list(shapes)
        random.Random(1).shuffle(keys)
        shapes = {key: shapes[key] for key in keys}
    found = recognise(shapes)
    assert dict(found.names) == names
    assert found.architecture == recognise(BASE).architecture
    assert "by place, order and shape" in " ".join(found.notes)
    assert (AVERAGED_SHORTCUTS in found.unknown) is ("shortcuts" in name and "kuangliu" not in name)


@pytest.mark.parametrize("family", [name for name in BUILDERS if name not in ("release-student", "detectron2")])
@pytest.mark.parametrize("size", [SIZE, DEEP], ids=["basic", "bottleneck"])
def test_one_module_of_any_family_may_have_another_name(family: str, size: Size) -> None:
    with torch.device("meta"):
        shapes, names = answer(BUILDERS[family](size))
    for role in ("stem.conv", "stages.1.0.conv1", "head"):
        module = names[f"{role}.weight"].removesuffix(".weight")
        last = module.rpartition(".")[2]
        other = module[: len(module) - len(last)] + "quux"
        found = recognise({key.replace(f"{module}.", f"{other}."): shape for key, shape in shapes.items()})
        assert dict(found.names) == {name: key.replace(f"{module}.", f"{other}.") for name, key in names.items()}, role


def test_what_only_order_tells_is_told_by_it_unless_the_order_is_the_alphabets() -> None:
    turns = {"layer1.0.bn1": "layer1.0.zz", "layer1.0.bn2": "layer1.0.aa"}
    shapes, names = renamed(
        lambda key: f"{turns.get(key.rpartition('.')[0], key.rpartition('.')[0])}.{key.split('.')[-1]}"
    )
    assert dict(recognise(shapes).names) == names
    with pytest.raises(FamilyError, match=r"'layer1\.0\.aa'"):
        recognise({key: shapes[key] for key in sorted(shapes)})


def test_a_projection_behind_an_average_is_not_taken_for_a_plain_one() -> None:
    shapes, _ = renamed(lambda key: key.replace("downsample.1", "way.2").replace("downsample.0", "way.1"))
    with pytest.raises(FamilyError, match=r"'layer2\.0\.way\.1'") as caught:
        recognise(shapes, Reading(allow_unused=True))
    assert str(caught.value.fix).startswith("Say what they are in a table of their names: --scheme")


def test_a_table_may_give_only_what_differs() -> None:
    shapes, names = renamed(lambda key: stem(key).replace("downsample.1", "way.2").replace("downsample.0", "way.1"))
    shapes |= {"layer1.0.lost.weight": (4, 4, 3, 3)}
    rows = (
        Row("layer{s+1}.{b}.way.1", "stages.{s}.{b}.shortcut.conv"),
        Row("layer{s+1}.{b}.way.2", "stages.{s}.{b}.shortcut.norm"),
        Row("layer1.0.lost.{*}", None, "never called"),
    )
    for told in ("projection", "average"):
        own = Scheme("own", "mine", rows, spiking=True, projection=told, told=True)
        found = recognise(shapes, Reading(scheme=own))
        assert found.scheme == "own"
        assert dict(found.names) == names
        assert found.architecture.traits()["shortcut"] == told
        assert found.dropped == {"layer1.0.lost.weight": "never called"}


def copies(*prefixes: str, **more: tuple[int, ...]) -> Shapes:
    return {prefix + key: shape for prefix in prefixes for key, shape in BASE.items()} | more


@pytest.mark.parametrize(
    ("prefixes", "taken", "others"),
    [
        (("student.", "teacher."), "student.", ["teacher."]),
        (("teacher.", "student."), "student.", ["teacher."]),
        (("state_dict.teacher.", "state_dict.student."), "state_dict.student.", ["state_dict.teacher."]),
        (("", "teacher."), "", ["teacher."]),
        (("net_a.", "net_b.", "net_c."), "net_a.", ["net_b.", "net_c."]),
        (("online.encoder.", "target.encoder."), "online.encoder.", ["target.encoder."]),
    ],
)
def test_of_several_networks_one_is_taken_and_the_others_named(
    prefixes: tuple[str, ...], taken: str, others: list[str]
) -> None:
    shapes = copies(*prefixes)
    found = recognise(shapes)
    assert found.root == taken
    assert dict(found.names) == {name: taken + key for name, key in NAMES.items()}
    assert set(found.dropped) == {key for key in shapes if key not in found.names.values()}
    words = " ".join(found.notes)
    assert f"it holds {len(prefixes)} networks" in words
    assert all(f"'{root}'" in words for root in others)
    assert "--root" in words
    for other in others:
        chosen = recognise(shapes, Reading(root=other.rstrip(".")))
        assert chosen.root == other
        assert dict(chosen.names) == {name: other + key for name, key in NAMES.items()}
        assert chosen.notes == ()


def test_a_root_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(FamilyError, match=r"begins with 'tutor\.'. They begin with 'student', 'teacher'"):
        recognise(copies("student.", "teacher."), Reading(root="tutor"))


def test_a_root_has_its_own_linear_layer_only() -> None:
    shapes = body("student.backbone.") | head("student.fc") | body("teacher.backbone.") | head("teacher.fc")
    found = recognise(shapes, Reading(root="teacher."))
    assert found.names["head.weight"] == "teacher.fc.weight"
    assert not recognise(shapes, Reading(root="teacher.backbone")).has_head


def test_a_moving_average_is_a_copy_and_no_other_network() -> None:
    found = recognise(copies("model.", "ema."))
    assert (found.root, sorted(found.copies), found.notes) == ("ema.", ["ema", "raw"], ())
    assert recognise(copies("model.", "ema."), Reading(weights="raw")).root == "model."
