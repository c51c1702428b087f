"""Whether rules fit a source and a target: what can be said before the source runs, or is trained."""

from __future__ import annotations

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer.converting import require_convertible
from idsnn_cli.rules import Rules


def check_rules(rules: Rules, source: Architecture, target: Architecture, *, has_head: bool) -> None:
    """Raise :class:`UsageError` where ``rules`` do not fit ``source``: what can be said before it is trained, or runs.

    ``has_head`` says whether the source has its linear layer.
    """
    if rules.blocks == "greedy":
        if not has_head:
            raise UsageError("blocks: greedy needs the source's linear layer, which it lacks", "Use another rule.")
        classes = (source.num_classes, target.num_classes)
        if classes[0] != classes[1]:
            raise UsageError(
                f"blocks: greedy scores the source on the target's labels, but it has {classes[0]} classes, "
                f"the target {classes[1]}",
                "Use another rule, or a source that was trained on the target's data.",
            )
    if source.kind == "spiking":
        for rule, asked in (
            ("blocks: greedy", rules.blocks == "greedy"),
            ("rescale: threshold", rules.rescale == "threshold"),
            (f"convert: {rules.convert}", rules.convert != "none"),
        ):
            if asked:
                raise UsageError(f"{rule} is for an ANN source, but this one is spiking", "Use another rule.")
    if rules.rescale == "threshold" and target.kind != "spiking":
        raise UsageError("rescale: threshold is for a spiking target", "Use rescale: none.")
    if rules.convert != "none":
        require_convertible(target)
    if rules.convert == "learnt-thresholds" and source.activation != "qcfs":
        raise UsageError(
            "convert: learnt-thresholds needs a source with QCFS activations, which this one does not have",
            "Train one with teacher.activation=qcfs, or use convert: weight-normalisation.",
        )
