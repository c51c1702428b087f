"""Libraries that only some commands need: what brings them, said where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from idsnn_cli.errors import MissingPackageError


def missing(*packages: str) -> list[str]:
    """Those of ``packages``, by the names to import, that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def require_extra(extra: str, what: str, *packages: str) -> None:
    """Raise :class:`MissingPackageError` where ``what`` needs one of ``packages`` that is not installed; ``extra`` is
    the extra of this package that brings them.
    """
    lacking = missing(*packages)
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise MissingPackageError(
            f"{what} needs {' and '.join(lacking)}, which {verb} not installed",
            f"Install it with: pip install 'idsnn-cli[{extra}]'",
        )
