"""What a student would start from, as a plain dictionary, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from idsnn_cli.families import Reading
from idsnn_cli.initializer import Plan
from idsnn_cli.report.mapping import describe_mapping
from idsnn_cli.report.network import open_network
from idsnn_cli.report.values import network_statistics, statistics_by_name
from idsnn_cli.sources.names import Source


def describe_plan(
    source: Source, plan: Plan, state: Mapping[str, Tensor], reading: Reading | None = None, *, values: bool = False
) -> dict[str, Any]:
    """The layer map of ``plan``, which makes the student's ``state`` from the network in ``source``.

    Keys as those of :func:`idsnn_cli.report.contents.describe_checkpoint`: ``kind`` (plan), ``description`` and
    ``architecture`` of the student, ``mapping``, and with ``values`` ``statistics`` and ``source_statistics`` (None
    otherwise); further ``source``: its ``file``, ``scheme``, ``choice``, ``certainty``, ``unknown`` and ``dropped``.
    """
    with open_network(source, reading, only_foreign=True) as network:
        found = network.found
        return {
            "kind": "plan",
            "description": plan.target.describe(),
            "architecture": plan.target.to_dict(),
            "source": {
                "file": str(source),
                "scheme": found.scheme,
                "choice": found.choice,
                "certainty": None if found.certainty is None else asdict(found.certainty),
                "unknown": list(found.unknown),
                "dropped": dict(found.dropped),
            },
            "mapping": describe_mapping(plan),
            "statistics": statistics_by_name(state, state.__getitem__) if values else None,
            "source_statistics": network_statistics(network) if values else None,
        }
