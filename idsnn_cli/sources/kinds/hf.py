"""``hf://USER/REPO[@REVISION][/FILE]``: networks of the Hugging Face hub, in its client's cache or fetched into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsnn_cli.hub.names import FORM, parse_hub
from idsnn_cli.sources.names import Download, Kind, MeanStd, Say

if TYPE_CHECKING:
    from idsnn_cli.hub.reading import Located, Stored


class HubKind(Kind):
    """Addresses are ``//USER/REPO[@REVISION][/FILE]``. Within a process a branch stands for one commit."""

    form = FORM

    def parse(self, text: str) -> str:
        return str(parse_hub(text)).removeprefix("hf:")

    def short(self, address: str) -> str:
        """REPO, or FILE without its folders and ending."""
        name = parse_hub(address)
        return name.repo.partition("/")[2] if name.file is None else Path(name.file).stem

    def located(self, address: str) -> Located:
        """The file behind the name. Raises :class:`HubError`."""
        from idsnn_cli.hub.reading import locate

        return locate(parse_hub(address))

    def cached_file(self, address: str) -> Path:
        return self.located(address).path

    def needed_download(self, address: str) -> Download | None:
        from idsnn_cli.hub.reading import is_here

        found = self.located(address)
        if is_here(found):
            return None
        return Download(str(parse_hub(address)), found.url, found.sizes.get(found.file, 0) / 1e6)

    def fetch(self, address: str, say: Say | None) -> Path:
        from idsnn_cli.hub.reading import fetch

        return fetch(self.located(address), say)

    def foresight(self, address: str) -> str | None:
        found = self.located(address)
        if not found.safe:
            return None
        from idsnn_cli.hub.reading import CONFIG, PREPROCESSOR

        beside = [name for name in (CONFIG, PREPROCESSOR) if found.beside(name) is not None]
        return " and ".join([f"the header of {found.file}", *beside])

    def tensors(self, address: str) -> dict[str, Stored]:
        """By the file's header; the settings beside it are fetched as well."""
        from idsnn_cli.hub.reading import header, settings

        found = self.located(address)
        settings(found)
        return header(found).tensors

    def strings(self, address: str) -> dict[str, str]:
        from idsnn_cli.hub.reading import header

        return dict(header(self.located(address)).strings)

    def normalisation(self, address: str) -> MeanStd | None:
        """As timm's ``config.json`` or transformers' ``preprocessor_config.json`` beside the file say."""
        from idsnn_cli.hub.reading import CONFIG, PREPROCESSOR, settings

        found = settings(self.located(address))
        timms, transformers = found.get(CONFIG, {}).get("pretrained_cfg"), found.get(PREPROCESSOR, {})
        if isinstance(timms, dict):
            return _mean_std(timms.get("mean"), timms.get("std"))
        scaled = transformers.get("do_rescale", True) is True and _is_near_255th(transformers.get("rescale_factor"))
        if not scaled or transformers.get("do_normalize", True) is not True:
            return None
        return _mean_std(transformers.get("image_mean"), transformers.get("image_std"))

    def origin(self, address: str) -> dict[str, str]:
        found = self.located(address)
        return {"repository": found.name.repo, "commit": found.commit, "file": found.file}

    def settle(self, address: str, origin: Mapping[str, str]) -> None:
        from idsnn_cli.hub.reading import pin

        pin(parse_hub(address), origin["commit"], origin["file"])

    def remark(self, address: str) -> str | None:
        given = self.normalisation(address)
        return None if given is None else f"the settings beside it say that {normalisation_words(given)}"


KIND = HubKind()


def normalisation_words(given: MeanStd) -> str:
    """How images are normalised: ``images are normalised by mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5``."""
    mean, std = (", ".join(f"{value:g}" for value in values) for values in given)
    return f"images are normalised by mean {mean} and std {std}"


def _mean_std(mean: Any, std: Any) -> MeanStd | None:
    """Both as tuples; None unless they are finite numbers, as many of each, that can be divided by."""
    for values in (mean, std):
        if not isinstance(values, list) or not values:
            return None
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
            return None
    if len(mean) != len(std) or not all(abs(each) < 1e6 for each in mean) or not all(0 < each < 1e6 for each in std):
        return None
    return tuple(map(float, mean)), tuple(map(float, std))


def _is_near_255th(factor: Any) -> bool:
    """Whether images are brought to 0 to 1 by it; 1/255 is what transformers takes where nothing is said."""
    return factor is None or (isinstance(factor, int | float) and abs(factor * 255 - 1) < 1e-3)
