"""Of what doctor found, one line."""

from __future__ import annotations

from idsnn_cli.doctor.libraries import Check


def only(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found
