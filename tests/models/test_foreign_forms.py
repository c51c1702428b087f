"""Weights in other forms: biases before BatchNorm, pruning masks, weight and spectral normalisation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from plain_resnet import plain
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from idsnn_cli import initialize, load
from idsnn_cli.errors import CheckpointError, FamilyError
from idsnn_cli.models import Model
from idsnn_cli.models.folded import with_norms
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint

HALF = ((0.5,) * 3, (0.5,) * 3)
PLAIN = ((0.0,) * 3, (1.0,) * 3)


def network(seed: int = 0, depth: int = 18) -> nn.Module:
    """torchvision's ResNet of ``depth``, all of its tensors random, in float64 and evaluation mode."""
    torch.manual_seed(seed)
    model = getattr(torchvision.models, f"resnet{depth}")(num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for statistic, values in (("running_mean", torch.randn), ("running_var", torch.rand)):
                module.get_buffer(statistic).copy_(0.5 + values(module.num_features) / 4)
    plain: nn.Module = model.double().eval()
    return plain


def with_biases(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.randn(module.out_channels, dtype=torch.float64))
    return model


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def pruned(model: nn.Module) -> nn.Module:
    for module in convolutions(model):
        prune.L1Unstructured.apply(module, "weight", amount=0.4)  # type: ignore[no-untyped-call]
    return model


def weight_normed(model: nn.Module) -> nn.Module:
    for module in convolutions(model)[::2]:
        parametrizations.weight_norm(module)
    return model


def older_weight_normed(model: nn.Module) -> nn.Module:
    for module in convolutions(model)[1::2]:
        nn.utils.weight_norm(module, dim=1)
    return model


def spectral_normed(model: nn.Module) -> nn.Module:
    for module in convolutions(model):
        parametrizations.spectral_norm(module)
    return model.eval()


def older_spectral_normed(model: nn.Module) -> nn.Module:
    for module in convolutions(model):
        nn.utils.spectral_norm(module)
    return model.eval()


FORMS: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "biases": (with_biases, "the biases of 20 convolutions are folded into the running means"),
    "pruned": (pruned, "pruning masks are multiplied in (of 20 tensors)"),
    "weight norm": (weight_normed, "weight normalisation is computed (of 10 tensors)"),
    "older weight norm": (older_weight_normed, "weight normalisation is computed (of 10 tensors)"),
    "spectral norm": (spectral_normed, "spectral normalisation is computed (of 20 tensors)"),
    "older spectral norm": (older_spectral_normed, "spectral normalisation is computed (of 20 tensors)"),
    "biases and masks": (lambda model: pruned(with_biases(model)), "pruning masks"),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_the_function_is_the_modules_own(form: str, tmp_path: Path) -> None:
    change, words = FORMS[form]
    theirs = change(network())
    path = tmp_path / "net.pth"
    torch.save(theirs.state_dict(), path)
    ours = load(path, normalise=HALF)
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        wanted: Tensor = theirs((images - 0.5) / 0.5)
        torch.testing.assert_close(ours(images), wanted, rtol=1e-9, atol=1e-9)
    assert words in str(describe_checkpoint(path).choice)
    assert isinstance(ours, Model)
    # The same tensors start a student as those of the plain network do.
    plain = tmp_path / "plain.pth"
    torch.save(torchvision_state(ours), plain)
    start, wanted_start = (initialize(each, "spiking-resnet18", num_classes=5).state for each in (path, plain))
    assert all(torch.equal(start[name], wanted_start[name]) for name in wanted_start)


def torchvision_state(model: Model) -> dict[str, Tensor]:
    """The model's tensors under torchvision's names."""
    found = {}
    for name, value in model.state_dict().items():
        if name.startswith("input."):
            continue
        name = name.replace("stem.conv", "conv1").replace("stem.norm", "bn1").replace("head", "fc")
        for stage in range(4):
            name = name.replace(f"stages.{stage}.", f"layer{stage + 1}.")
        for i in range(2):
            name = name.replace(f"conv{i}.", f"CONV{i + 1}.") if name.startswith("layer") else name
            name = name.replace(f"norm{i}.", f"bn{i + 1}.") if name.startswith("layer") else name
        name = name.replace("CONV", "conv").replace("shortcut.conv", "downsample.0")
        found[name.replace("shortcut.norm", "downsample.1")] = value
    return found


def folded_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``model`` for inference, by torch's own folding; the norms' own tensors are gone."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            before = name.replace("downsample.1", "downsample.0").replace("bn", "conv")
            parent, _, leaf = before.rpartition(".")
            conv = model.get_submodule(before)
            assert isinstance(conv, nn.Conv2d)
            fused = nn.utils.fuse_conv_bn_eval(conv, module)
            model.get_submodule(parent).register_module(leaf, fused)
            parent, _, leaf = name.rpartition(".")
            model.get_submodule(parent).register_module(leaf, nn.Identity())
    return dict(model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("depth", [18, 50])
def test_folded_batch_norms_are_read_with_ones_that_add_the_bias(depth: int, prefix: str, tmp_path: Path) -> None:
    theirs = network(depth=depth)
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        wanted: Tensor = theirs((images - 0.5) / 0.5)
    path = tmp_path / "folded.pth"
    state = folded_state(theirs)
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)
    with torch.no_grad():
        torch.testing.assert_close(load(path, normalise=HALF)(images), wanted, rtol=1e-9, atol=1e-9)
    assert "BatchNorms that add the bias alone" in str(describe_checkpoint(path).choice)


def test_an_identity_norm_is_exactly_one() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        read = with_norms(lambda _: torch.full((2,), 0.25, dtype=dtype), {"v": ("running_var", "b")})  # noqa: B023
        assert torch.equal(1 / torch.sqrt(read("v") + 1e-5), torch.ones_like(read("v")))


def test_folded_batch_norms_under_names_that_nobody_knows_are_named_as_what_they_are(tmp_path: Path) -> None:
    state = {key.replace("layer", "part"): value for key, value in folded_state(network()).items()}
    torch.save(state, tmp_path / "folded.pth")
    with pytest.raises(FamilyError, match="BatchNorms are folded into its convolutions"):
        load(tmp_path / "folded.pth", normalise=HALF)


def test_a_convolution_without_a_bias_among_folded_ones_is_not_guessed(tmp_path: Path) -> None:
    state = folded_state(network())
    del state["layer2.0.conv1.bias"]
    torch.save(state, tmp_path / "folded.pth")
    with pytest.raises(FamilyError):
        load(tmp_path / "folded.pth", normalise=HALF)


def test_a_bias_that_no_norm_takes_away_is_refused(tmp_path: Path) -> None:
    """Before pre-activation blocks a convolution's output goes to the sum as it is."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    state = timm.create_model("resnetv2_50", num_classes=5).state_dict()
    names = [key for key, value in state.items() if key.endswith("conv2.weight")]
    state |= {key.replace(".weight", ".bias"): torch.ones(state[key].shape[0]) for key in names}
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(FamilyError, match="bias"):
        load(tmp_path / "net.pth", normalise=HALF)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, parametrizations.weight_norm], ids=["older", "newer"])
def test_one_magnitude_for_a_whole_kernel(norm: Callable[..., nn.Module], tmp_path: Path) -> None:
    theirs = plain()
    for module in convolutions(theirs):
        norm(module, dim=None)
    assert_as_theirs(theirs, tmp_path)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, parametrizations.spectral_norm], ids=["older", "newer"])
def test_spectral_normalisation_over_another_axis_is_refused(norm: Callable[..., nn.Module], tmp_path: Path) -> None:
    theirs = plain()
    for module in convolutions(theirs):
        norm(module, dim=1)
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"'conv1\..* do not fit together as spectral"):
        load(tmp_path / "net.pth", normalise=PLAIN)


class Magnitude(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs()


@pytest.mark.parametrize("also", [False, True])
def test_what_a_weight_is_computed_by_and_nobody_tells_is_refused(also: bool, tmp_path: Path) -> None:
    theirs = plain()
    for module in convolutions(theirs):
        parametrize.register_parametrization(module, "weight", Magnitude())
        if also:
            parametrizations.spectral_norm(module)
    torch.save(theirs.eval().state_dict(), tmp_path / "net.pth")
    for allow in (False, True):
        with pytest.raises(FamilyError, match=r"'(conv1|layer1.0.conv1)(\.parametrizations\.weight)?"):
            load(tmp_path / "net.pth", normalise=PLAIN, allow_unused=allow)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["biases", "weight norm"])
def test_short_types_are_not_computed_with(form: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """What is stored in sixteen bits is exact in float32; sums and roots of it in sixteen bits are not."""
    theirs = plain(bias=form == "biases")
    for module in convolutions(theirs) if form == "weight norm" else ():
        parametrizations.weight_norm(module)
    stored = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(stored)
    assert_as_theirs(theirs, tmp_path, stored)


def test_packed_floats_are_refused(tmp_path: Path) -> None:
    state = plain().state_dict()
    state["conv1.weight"] = torch.zeros((4, 3, 3, 3), dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="holds float4_e2m1fn_x2 values"):
        load(tmp_path / "net.pth", normalise=PLAIN)


def assert_as_theirs(theirs: nn.Module, folder: Path, stored: dict[str, Tensor] | None = None) -> None:
    torch.save(theirs.state_dict() if stored is None else stored, folder / "net.pth")
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            load(folder / "net.pth", normalise=PLAIN)(images), theirs(images), rtol=2e-5, atol=2e-5
        )
