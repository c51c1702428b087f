"""What the recogniser says of files that are no ResNet, or not a whole one, or one that is not supported."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
import torch
import torchvision
from resnet_families import BUILDERS, EhanW, Size, Torchvision, answer
from torch import nn

from idsnn_cli.errors import FamilyError
from idsnn_cli.families import recognise

Shapes = dict[str, tuple[int, ...]]
FULL = Size(depths=(2, 2, 2, 2), widths=(4, 8, 16, 32), kernel=7)
DEEP = Size(bottleneck=True, depths=(2, 2, 2, 2), widths=(4, 8, 16, 32), kernel=7)


def shapes_of(size: Size = FULL) -> Shapes:
    return answer(Torchvision(size))[0]


def refusal(shapes: Shapes) -> str:
    with pytest.raises(FamilyError) as caught:
        recognise(shapes)
    lines = str(caught.value).splitlines()
    assert 1 <= len(lines) <= 5
    assert all(0 < len(line) < 1500 and line.isprintable() for line in lines)
    assert caught.value.fix
    return caught.value.message


def test_every_missing_tensor_is_named() -> None:
    whole = shapes_of(Size(depths=(1, 1, 1), widths=(4, 8, 16)))
    for key in whole:
        if key.endswith("num_batches_tracked"):
            continue
        rest = {name: shape for name, shape in whole.items() if name != key}
        message = refusal(rest)
        assert "missing" in message
        assert f"'{key}'" in message


def test_a_missing_tensor_has_its_canonical_name_too() -> None:
    shapes = shapes_of()
    del shapes["layer3.1.bn2.running_var"]
    assert refusal(shapes) == "1 tensor is missing: 'layer3.1.bn2.running_var' (stages.2.1.norm1.running_var)."


def without(shapes: Shapes, *prefixes: str) -> Shapes:
    return {key: shape for key, shape in shapes.items() if not key.startswith(prefixes)}


def test_missing_stages_and_blocks() -> None:
    shapes = shapes_of()
    assert "stage 1 (from 0) of 4 is missing" in refusal(without(shapes, "layer2."))
    assert "'layer2.0.conv1.weight'" in refusal(without(shapes, "layer2."))
    assert "block 0 (from 0) of stage 2 is missing" in refusal(without(shapes, "layer3.0."))
    last = refusal(without(shapes, "layer4."))
    assert "reads 32 channels, but the last stage gives 16. A later stage looks missing" in last
    assert "block" in refusal({"conv1.weight": (4, 3, 7, 7), "layer1.1.conv1.weight": (4, 4, 3, 3)})


def changed(key: str, shape: tuple[int, ...], size: Size = FULL) -> Shapes:
    shapes = shapes_of(size)
    assert key in shapes
    return {**shapes, key: shape}


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("layer2.1.conv1.weight", (8, 4, 3, 3), "is 8x4x3x3 where 8x8x3x3 fits"),
        ("layer2.0.conv1.weight", (4, 8, 3, 3), "is 4x8x3x3 where 8x4x3x3 fits, its axes transposed"),
        ("layer2.1.bn2.bias", (4,), "is 4 where 8 fits"),
        ("layer2.1.bn2.running_mean", (8, 1), "is 8x1 where 8 fits"),
        ("layer2.1.conv2.weight", (3, 3, 8, 8), "is 3x3x8x8 where 8x8x3x3 fits, its axes transposed"),
        ("layer2.0.conv1.weight", (3, 3, 4, 8), "transposed (height, width, in, out)"),
        ("layer2.1.conv2.weight", (8, 8, 1, 3), "not square"),
        ("layer2.1.conv2.weight", (8, 8, 5, 5), "is 8x8x5x5 where 8x8x3x3 fits"),
        ("layer2.1.conv2.weight", (8, 8), "a convolution has 4 axes"),
        ("conv1.weight", (7, 7, 3, 4), "transposed (height, width, in, out)"),
        ("conv1.weight", (3, 4, 7, 7), "transposed"),
        ("conv1.weight", (4, 3, 5, 5), "a 5x5 kernel: not supported yet"),
        ("fc.weight", (32, 7), "transposed"),
        ("fc.weight", (7, 30), "reads 30 channels, but the last stage gives 32."),
        ("fc.weight", (7, 32, 2, 2), "no linear layer"),
        ("fc.weight", (0, 32), "reads 32 channels"),
        ("layer1.0.bn1.weight", (4, 4), "a BatchNorm's has one axis"),
        ("layer3.0.downsample.0.weight", (16, 8, 3, 3), "is 16x8x3x3 where 16x8x1x1 fits"),
        ("bn1.num_batches_tracked", (2,), "is 2 where () fits"),
    ],
)
def test_a_wrong_shape_is_named(key: str, shape: tuple[int, ...], words: str) -> None:
    message = refusal(changed(key, shape))
    assert f"'{key}'" in message
    assert words in message


def test_option_a_of_bottlenecks_and_of_odd_widths() -> None:
    bare = refusal({key: shape for key, shape in shapes_of(DEEP).items() if ".downsample." not in key})
    assert "missing: 'layer1.0.downsample.0.weight'" in bare
    odd = shapes_of(Size(widths=(4, 7, 16), projections=False))
    assert "even number of channels" in refusal(odd)


def test_half_of_the_projections_missing() -> None:
    assert "missing: 'layer3.0.downsample.0.weight'" in refusal(without(shapes_of(), "layer3.0.downsample."))


def torchvision_shapes(name: str, **options: int) -> Shapes:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(**options)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vgg11", "a VGG without BatchNorm"),
        ("alexnet", "not a ResNet that is known"),
        ("mobilenet_v2", "not a ResNet that is known"),
        ("densenet121", "not a ResNet that is known"),
        ("googlenet", "not a ResNet that is known"),
        ("vit_b_16", "not a ResNet that is known"),
    ],
)
# Torchvision says so of GoogLeNet without init_weights, which the others do not know.
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_real_networks_of_other_kinds(name: str, words: str) -> None:
    assert words in refusal(torchvision_shapes(name))


def attention(shapes: Shapes, part: str, shape: tuple[int, ...]) -> Shapes:
    blocks = {key.partition(".conv1.")[0] for key in shapes if key.startswith("layer") and ".conv1." in key}
    return {f"{block}.se.{part}.weight": shape for block in blocks}


def deep_stem(shapes: Shapes) -> Shapes:
    return {**shapes, "conv1.7.weight": (4, 4, 3, 3)}


def averaged(shapes: Shapes) -> Shapes:
    def moved(key: str) -> str:
        key = key.replace("fc.", "linear.").replace("downsample", "shortcut")
        return key.replace("shortcut.1", "shortcut.2").replace("shortcut.0", "shortcut.1")

    return {moved(key): shape for key, shape in shapes.items()}


def halved(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[1] // 2, *shape[2:])


def bit(shapes: Shapes) -> Shapes:
    """timm's names for BiT: norms first, and GroupNorm, which has no running statistics."""
    found: Shapes = {"stem.conv.weight": (4, 3, 7, 7), "head.fc.weight": (7, 32, 1, 1), "head.fc.bias": (7,)}
    found |= {"norm.weight": (32,), "norm.bias": (32,)}
    for key, shape in shapes.items():
        if key.startswith("layer") and key.endswith(("conv1.weight", "conv2.weight")):
            stage, block, rest = key[5:].split(".", 2)
            at = f"stages.{int(stage) - 1}.blocks.{block}"
            found[f"{at}.{rest}"] = shape
            found |= {f"{at}.{rest.replace('conv', 'norm')[:5]}.{leaf}": shape[1:2] for leaf in ("weight", "bias")}
    return found


def group_norm(shapes: Shapes) -> Shapes:
    return {key: shape for key, shape in shapes.items() if not re.search("running|tracked", key)}


def mixed(shapes: Shapes) -> Shapes:
    """A last stage of bottlenecks behind stages of basic blocks."""
    deep = {key: shape for key, shape in shapes_of(DEEP).items() if key.startswith("layer4.")}
    return without(shapes, "layer4.") | deep | {"fc.weight": (7, 4 * 32)}


TRAITS: list[tuple[str, Callable[[Shapes], Shapes], str]] = [
    ("gates apart", lambda s: {**s, "layer1.0.attention.gate": (4, 4)}, "squeeze-and-excitation"),
    ("eca", lambda _: {**answer(EhanW(FULL))[0], "stage_1.0.se.conv.weight": (1, 1, 3)}, "efficient channel attention"),
    ("flat se", lambda s: {**s, **attention(s, "fc1", (4,))}, "not of 1x1 convolutions"),
    ("even eca", lambda s: {**s, **attention(s, "conv", (1, 1, 4))}, "no convolution over neighbours"),
    ("deep stem", deep_stem, "a deep stem"),
    ("average pool", averaged, "average-pooled shortcuts"),
    ("bit", bit, "GroupNorm"),
    ("group norm", group_norm, "GroupNorm"),
    ("mixed blocks", mixed, "basic and bottleneck blocks in one network"),
    ("attention pool", lambda s: {**s, "attnpool.c_proj.weight": (4, 4)}, "attention pooling"),
    ("bias", lambda s: {**s, "layer1.0.conv1.bias": (4,)}, "convolutions with a bias"),
    ("weight norm", lambda s: {**s, "conv1.weight_g": (4, 1, 1, 1)}, "weight normalisation"),
    (
        "identity replaced",
        lambda s: {
            **s,
            "layer1.0.downsample.0.weight": (4, 4, 1, 1),
            **{f"layer1.0.downsample.1.{k.rpartition('.')[2]}": v for k, v in s.items() if k.startswith("bn1.")},
        },
        "projections where the shortcut should be an identity",
    ),
    ("grouped basic blocks", lambda s: {**s, **{k: halved(v) for k, v in s.items() if ".conv2." in k}}, "2 groups"),
]


@pytest.mark.parametrize(("make", "words"), [trait[1:] for trait in TRAITS], ids=[trait[0] for trait in TRAITS])
def test_what_is_known_but_not_supported_is_called_that(make: Callable[[Shapes], Shapes], words: str) -> None:
    message = refusal(make(shapes_of()))
    assert words in message
    assert "not supported yet" in message


def test_groups_that_differ_between_blocks() -> None:
    shapes = shapes_of(DEEP)
    for at, groups in (("layer1.0", 2), ("layer1.1", 2), ("layer2.0", 4), ("layer2.1", 4)):
        shape = shapes[f"{at}.conv2.weight"]
        shapes[f"{at}.conv2.weight"] = (shape[0], shape[1] // groups, 3, 3)
    assert "is 4x2x3x3 where 4x4x3x3 fits" in refusal(shapes)  # stages 2 and 3 have none
    for at in ("layer3.0", "layer3.1", "layer4.0", "layer4.1"):
        shapes[f"{at}.conv2.weight"] = halved(shapes[f"{at}.conv2.weight"])
    assert "2-4 groups" in refusal(shapes)


def test_attention_in_some_blocks_only() -> None:
    shapes = shapes_of()
    eca = attention(shapes, "conv", (1, 1, 3))
    del eca["layer2.1.se.conv.weight"]
    assert "missing: 'layer2.1.se.conv.weight'" in refusal(shapes | eca)
    del eca["layer3.0.se.conv.weight"]
    assert "missing: 'layer3.0.se.conv.weight'" in refusal(shapes | eca)


def test_a_stem_narrower_than_the_block_that_reads_it() -> None:
    narrow = {
        key: (2, *shape[1:]) if key[:3] in ("con", "bn1") and shape else shape for key, shape in shapes_of().items()
    }
    assert "'conv1.weight' (stem.conv.weight) is 2x3x7x7 where 4x3x7x7 fits" in refusal(narrow)


def test_unexplained_keys_are_grouped_and_the_nearest_scheme_is_named() -> None:
    extra: Shapes = {f"layer1.{b}.gate.{leaf}": (4,) for b in (0, 1) for leaf in ("alpha", "beta")}
    message = refusal({**shapes_of(), **extra, "proxy": (1,)})
    total = len(shapes_of()) + 5
    assert message.startswith(f"5 of {total} tensors are not explained by the nearest naming scheme (torchvision")
    assert "'layer1.0.gate' (alpha, beta), 'layer1.1.gate' (alpha, beta), 'proxy'" in message


@pytest.mark.slow
def test_unexplained_lists_are_bounded() -> None:
    extra: Shapes = {f"layer1.0.{'x' * 5000}{i}.{'y' * 5000}\n{i}": (1,) for i in range(2000)}
    assert "and 1994 more" in refusal({**shapes_of(), **extra})


@pytest.mark.parametrize("family", BUILDERS)
def test_the_nearest_scheme_is_the_right_one(family: str) -> None:
    with torch.device("meta"):
        shapes, names = answer(BUILDERS[family](Size()))
    first = names["stages.0.0.conv0.weight"]
    message = refusal({**shapes, first.replace("weight", "mask"): (1,)})
    near = {"release-student": "release", "spikingjelly": "SpikingJelly", "huggingface": "Hugging"}.get(family, family)
    assert near.lower() in message.lower()


def test_two_keys_for_one_tensor() -> None:
    shapes = shapes_of()
    assert "name the same tensor" in refusal({**shapes, "_orig_mod.conv1.weight": (4, 3, 7, 7)})


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"weight": (3, 3)},
        {"": ()},
        {".": (1,), "..": (2,)},
        {"fc.weight": (10, 64), "fc.bias": (10,)},
        {"conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,), "conv2.weight": (16, 6, 5, 5), "conv2.bias": (16,)},
        {"model." * 2000 + "conv1.weight": (1,)},
        {"layer0.0.conv1.weight": (1, 1, 1, 1)},
        {"layer99999999999999999999.0.conv1.weight": (1, 1, 3, 3)},
        {"conv1.weight": (4, 3, 3, 3), "layer9999.9999.conv1.weight": (4, 4, 3, 3)},
        {f"tensor{i}": (1,) for i in range(60_000)},
    ],
    ids=["none", "one", "nameless", "dots", "head", "lenet", "nested", "zero", "huge", "far", "many"],
)
def test_no_resnet_at_all(shapes: Shapes) -> None:
    refusal(shapes)


@pytest.mark.slow
def test_random_damage_is_recognised_or_refused() -> None:
    rng = random.Random(5)
    families = []
    for family in BUILDERS:
        with torch.device("meta"):
            families.append(answer(BUILDERS[family](Size(depths=(1, 2), widths=(2, 4))))[0])
    refused = 0
    for _ in range(600):
        shapes: Shapes = dict(rng.choice(families))
        for _ in range(rng.choice((1, 1, 3))):
            key = rng.choice(list(shapes))
            kind = rng.randrange(5)
            if kind == 0:
                del shapes[key]
            elif kind == 1:
                shapes[key] = tuple(rng.randrange(5) for _ in range(rng.randrange(6)))
            elif kind == 2:
                shapes[key] = tuple(reversed(shapes[key]))
            elif kind == 3:
                at = rng.randrange(len(key))
                shapes[key[:at] + rng.choice("01.xé\n") + key[at + 1 :]] = shapes.pop(key)
            else:
                shapes[rng.choice(("module.", "model.", "layer1.", "x")) + key] = shapes.pop(key)
        try:
            found = recognise(shapes)
        except FamilyError as error:
            refused += 1
            lines = str(error).splitlines()
            assert all(line.isprintable() for line in lines), lines
        else:
            assert sorted([*found.names.values(), *found.dropped]) == sorted(shapes)
            tensors = found.architecture.tensors()
            assert all(tensors[name] == shapes[key] for name, key in found.names.items())
    assert 300 < refused < 600


def test_modules_of_a_plain_stack_are_no_resnet() -> None:
    stack = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    assert "not a ResNet" in refusal({key: tuple(value.shape) for key, value in stack.state_dict().items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    "shapes",
    [
        {f"{'model.' * 9}m{i}.weight": (4, 4, 3, 3) for i in range(49_999)},
        {f"{'x.' * 9}m{i}.weight": (4, 4, 3, 3) for i in range(49_999)},
        {**shapes_of(), **{f"layer1.0.odd{i}.weight": (4, 4, 3, 3) for i in range(5_000)}},
    ],
    ids=["known prefixes", "strange prefixes", "odd modules"],
)
def test_many_tensors_are_refused_without_trying_everything(shapes: Shapes) -> None:
    refusal(shapes)
