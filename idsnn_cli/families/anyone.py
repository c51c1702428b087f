"""Which network a checkpoint holds, of whichever family: a ResNet, or where it is none, a VGG."""

from __future__ import annotations

from collections.abc import Mapping

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.completing import Alike
from idsnn_cli.families.reading import Reading, Recognised
from idsnn_cli.families.recogniser import never_alike, original_keys, recognise_resnet
from idsnn_cli.families.vgg import recognise_vgg


def recognise(
    shapes: Mapping[str, tuple[int, ...]], reading: Reading | None = None, alike: Alike = never_alike
) -> Recognised:
    """Recognise the network whose tensors have these names and ``shapes``, by ``reading`` where there is a choice.

    ``alike`` says whether two keys hold the same values. Raises :class:`FamilyError`: what the VGG's names leave
    unexplained where they are those of one, and else why it is no ResNet (:func:`recognise_resnet`).
    """
    try:
        return recognise_resnet(shapes, reading, alike)
    except FamilyError:
        if not any(".features." in f".{key}" for key in shapes):
            raise
        found = recognise_vgg(original_keys(shapes), shapes, reading or Reading())
        if found is None:
            raise
        return found
