"""The networks."""

from idsnn_cli.models.loading import load
from idsnn_cli.models.resnet import ResNet, SpikingResNet, build, per_step

__all__ = ["ResNet", "SpikingResNet", "build", "load", "per_step"]
