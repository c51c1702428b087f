"""A student written in another form, with what the form needs to know of its images, and images to compare it on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from idsnn_cli import registry
from idsnn_cli.data import eval_batches
from idsnn_cli.errors import DataError, UsageError
from idsnn_cli.export.base import FORMATS, Exported, Format, Images, Size, export, format_of
from idsnn_cli.pipeline.requirements import check_classes
from idsnn_cli.pipeline.standalone import Request, measuring_workspace
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.sources.names import Published, Source
from idsnn_cli.training import Events


def export_checkpoint(
    source: Source,
    target: Path,
    *,
    format: str | None,
    force: bool,
    image_size: Size | None,
    verify: int | None,
    data: str | None,
    events: Events,
) -> Exported:
    """Write the student in ``source`` to ``target``; :func:`~idsnn_cli.export.base.export` says what may stop it.

    One that is published is downloaded where this machine lacks it. The images are those of ``data`` (``NAME`` or
    ``NAME:PATH``), or of the recipe that the checkpoint carries: they say how large images are where ``image_size``
    does not, and the first ``verify`` of the test split are what the written file is run on. Raises
    :class:`DataError` where they are missing, and :class:`UsageError` where an option would change nothing.
    """
    name = format_of(target, format)
    sized = registry.find(FORMATS, name, Format).sized
    if image_size is not None and not sized:
        raise UsageError(f"--image-size would change nothing: {name} does not depend on it", "Leave it out.")
    if data is not None and verify is None and (image_size is not None or not sized):
        raise UsageError("--data would change nothing: no image is looked at", "Leave it out, or give --verify N.")

    path = source.fetch(events.say) if isinstance(source, Published) else source

    @cache
    def workspace() -> Workspace:
        found = measuring_workspace(Request(source, "CKPT", [], {}, events), data, ["runtime.device=cpu"])
        found.settle_process()
        return found

    def size() -> Size:
        if image_size is not None:
            return image_size
        try:
            return workspace().image_size
        except (DataError, UsageError) as error:
            raise type(error)(error.message, f"Give the images' size: --image-size 32. Or: {error.fix}") from None

    def images() -> Images:
        assert verify is not None
        with workspace().open(source) as opened:
            check_classes(workspace(), opened.architecture, source, teaches=False)
        split = workspace().split("test")
        if image_size is not None and split.shape[2:] != image_size:
            height, width = split.shape[2:]
            raise UsageError(
                f"--image-size is {image_size[0]}x{image_size[1]}, and the test images are {height}x{width}",
                "Leave it out, or leave --verify out.",
            )
        first, labels = next(eval_batches(split, min(verify, len(split)), torch.device("cpu")))
        return Images(first, labels)

    done = export(
        path,
        target,
        format=format,
        force=force,
        image_size=size,
        images=None if verify is None else images,
        called=source,
    )
    return replace(done, source=str(source))
