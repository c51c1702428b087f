"""CIFAR-100: 50,000 training and 10,000 test images of 100 classes, 32x32."""

from __future__ import annotations

from idsnn_cli.data.sets._torchvision import TorchvisionSet


class Cifar100(TorchvisionSet):
    """As torchvision reads it."""

    hub = "uoft-cs/cifar100"


CIFAR100 = Cifar100(
    reader="CIFAR100",
    folder="cifar-100-python",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    archive_bytes=169_001_437,
    num_classes=100,
    shipped={"train": 50_000, "test": 10_000},
    size=32,
)
