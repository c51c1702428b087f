"""The mechanics of a plan: one tensor, one convolution, one norm at a time; and what rules ask of both networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from idsnn_cli import rulebook
from idsnn_cli.architecture import QCFS, Architecture, Convolution
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer.blocks import choose_blocks
from idsnn_cli.initializer.conversion import require_convertible
from idsnn_cli.initializer.kernels import Folded, Kernel
from idsnn_cli.initializer.plan import NORM_PARTS, Action, Entry
from idsnn_cli.initializer.selections import IMAGE, Selection, Selector
from idsnn_cli.rulebook import NONE
from idsnn_cli.rules import BlockLists, Rules


@dataclass(frozen=True, slots=True)
class Findings:
    """Facts by the source's channel spaces (:mod:`idsnn_cli.initializer.spaces`); what no rule asks for is left out.

    ``blocks``: the blocks that a search keeps, by stage. ``scores``: how much each channel counts by its BatchNorms.
    ``correlations``: (C, C) of the channels' activations. ``thresholds``: lambda of each space. ``learnt``: lambda of
    each space of a QCFS source, for ``convert``.
    """

    blocks: BlockLists | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    correlations: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    learnt: Mapping[str, float] = field(default_factory=dict)


def check_rules(rules: Rules, source: Architecture, target: Architecture, *, has_head: bool) -> None:
    """Raise :class:`UsageError` where ``rules`` do not fit ``source``: what can be said before it is trained, or runs.

    ``has_head`` says whether the source has its linear layer.
    """
    if rules.head == "match" and not has_head:
        raise UsageError(
            "head: match copies the source's linear layer, which it lacks",
            "Use head: random (--head random), or a source that has one.",
        )
    used = rules.used()
    for rule in used:
        if not rule.searches:
            continue
        if not has_head:
            raise UsageError(f"{rule} needs the source's linear layer, which it lacks", "Use another rule.")
        classes = (source.num_classes, target.num_classes)
        if classes[0] != classes[1]:
            raise UsageError(
                f"{rule} scores the source on the target's labels, but it has {classes[0]} classes, "
                f"the target {classes[1]}",
                "Use another rule, or a source that was trained on the target's data.",
            )
    for rule in used:
        if rule.of_activations and source.kind == "spiking":
            raise UsageError(f"{rule} is for an ANN source, but this one is spiking", "Use another rule.")
    require_neurons(rules, target)
    if rules.convert != NONE:
        require_convertible(target, source)
    for rule in used:
        if "learnt" in rule.asks and not isinstance(source.activation, QCFS):
            raise UsageError(
                f"{rule} needs a source with QCFS activations, which this one does not have",
                "Train one with teacher.activation=qcfs, or use convert: weight-normalisation.",
            )


def require_neurons(rules: Rules, target: Architecture) -> None:
    """Raise :class:`UsageError` where a rule scales by the target's neurons, and it has none."""
    for rule in rules.used():
        if "neuron" in rule.asks and target.kind != "spiking":
            raise UsageError(f"{rule} is for a spiking target", f"Use {rule.kind}: {NONE}.")


class Planner:
    """Fills the entries of one plan; ``names`` leads from canonical names to the source's keys."""

    def __init__(
        self,
        source: Architecture,
        target: Architecture,
        names: Mapping[str, str],
        rules: Rules,
        found: Findings,
        seed: int,
    ) -> None:
        self.source, self.target, self.names, self.rules, self.found = source, target, names, rules, found
        self.source_shapes, self.target_shapes = source.tensors(), target.tensors()
        self.ours, self.theirs = target.streams(), source.streams()
        chosen = rulebook.rule("channels", rules.channels)
        facts = (self.theirs, self.ours, found.scores, found.correlations, seed)
        self.selector = Selector(chosen, rulebook.rule("input", rules.input), *facts)
        self.blocks = choose_blocks(source, target, rules, found.blocks)
        self.entries: dict[str, Entry] = {}
        self.selections: list[Selection] = []
        self.places: dict[tuple[str, str], int | None] = {}
        # Target space -> the source spaces that it is made of.
        self.made_of: dict[str, set[str]] = {}
        # The same of what writes the space alone: a layer may read it as what it read in the source, another space.
        self._written: dict[str, set[str]] = {}
        # Target convolutions, each with the source's that it takes.
        self.taken: list[tuple[Convolution, Convolution]] = []

    def keep(self, name: str, action: Action, reason: str) -> None:
        self.entries[name] = Entry(name, self.target_shapes[name], action, reason=reason)

    def selection(self, target: str, source: str) -> int | None:
        """The place of a choice of channels in the plan; None where it is a plain loop, or all in order."""
        if (target, source) not in self.places:
            self.made_of.setdefault(target, set()).add(source)
            chosen = self.selector.select(target, source)
            plain = all(each == (c % chosen.of,) for c, each in enumerate(chosen.channels))
            self.places[target, source] = None if plain else self.placed(chosen)
        return self.places[target, source]

    def written_of(self) -> dict[str, set[str]]:
        """Target space -> the source spaces that its writers wrote, or without any those that it is read as."""
        return {space: self._written.get(space, sources) for space, sources in self.made_of.items()}

    def placed(self, chosen: Selection) -> int:
        self.selections.append(chosen)
        return len(self.selections) - 1

    def take(
        self,
        name: str,
        canonical: str,
        *,
        rows: int | None = None,
        columns: int | None = None,
        kernel: Kernel | None = None,
        norm: str | None = None,
        weights: bool = False,
    ) -> None:
        """``name`` takes the source's ``canonical``; a missing source tensor leaves it random, and says so.

        ``norm`` is the source's norm that weights averaged rows; ``weights`` says that axis 1 reads channels.
        """
        if canonical not in self.names:
            self.keep(name, "random", f"the source has no {canonical}")
            return
        shape, from_shape = self.target_shapes[name], self.source_shapes[canonical]
        merges = rows is not None and self.selections[rows].merges
        grows = self._repeats(rows, from_shape[0] if from_shape else 1, shape[0] if shape else 1)
        entry = Entry(
            name,
            shape,
            "interpolated",
            self.names[canonical],
            from_shape,
            rows=rows,
            columns=columns,
            kernel=kernel,
            norm=self.keys_of(norm) if merges and norm is not None else None,
            divide=weights and self.rules.multiplicity == "divide",
            noise=self.rules.noise if weights and grows else 0.0,
        )
        whole = (rows, columns, kernel, shape) == (None, None, None, from_shape)
        self.entries[name] = replace(entry, action="copied", divide=False) if whole else entry

    def rescale(self) -> None:
        """Multiply the values that are taken, by the rule. Raises :class:`UsageError` where it does not fit."""
        if self.rules.rescale == rulebook.NONE:
            return
        require_neurons(self.rules, self.target)
        rule = rulebook.rule("rescale", self.rules.rescale)
        self.scale(rule(planner=self, thresholds=self.found.thresholds, neuron=self.target.neuron))

    def scale(self, factors: Mapping[str, float]) -> None:
        """Multiply target tensors, by their names, where they are taken from the source."""
        for name, factor in factors.items():
            entry = self.entries.get(name)
            if entry is not None and entry.source is not None and factor != 1.0:
                self.entries[name] = replace(entry, scale=entry.scale * factor, action="interpolated")

    def _repeats(self, rows: int | None, have: int, want: int) -> bool:
        if rows is None:
            return want > have
        return max(self.selections[rows].multiplicities(), default=0) > 1

    def keys_of(self, norm: str) -> tuple[str, str] | None:
        keys = tuple(self.names.get(f"{norm}.{part}") for part in ("weight", "running_var"))
        return None if keys[0] is None or keys[1] is None else (keys[0], keys[1])

    def convolution(
        self, conv: Convolution, taken: Convolution, norm: str | None, *, kernel: Kernel | None = None, reads: str = ""
    ) -> None:
        """A convolution and its BatchNorm from ``taken`` and the source's ``norm``, None where nothing normalises it.

        ``kernel`` brings the kernel to the target's form where its size is another, and ``reads`` names the space that
        a folded kernel reads. Raises :class:`MappingError` where groups do not fit.
        """
        kernel = kernel or self._kernel(conv, taken)
        rows = self.selection(self.ours.writes[conv.name], self.theirs.writes[taken.name])
        columns = self.selection(self.ours.reads[conv.name], reads or self.theirs.reads[taken.name])
        self.taken.append((conv, taken))
        self._written.setdefault(self.ours.writes[conv.name], set()).add(self.theirs.writes[taken.name])
        self.take(
            f"{conv.name}.weight",
            f"{taken.name}.weight",
            rows=rows,
            columns=columns if conv.groups == 1 else None,
            kernel=kernel,
            norm=self.behind(taken) if conv.norm_first else norm,
            weights=True,
        )
        if self.ours.reads[conv.name] == IMAGE:
            self._other_images(f"{conv.name}.weight")
        if conv.norm is not None:
            # A stream that several norms read is averaged as it is.
            self.norm(conv.norm, norm, weighs=not (conv.norm_first and conv.name.endswith("conv0")))

    def _other_images(self, name: str) -> None:
        """Keep what a kernel makes of grey, whatever the channels: repeated ones are divided, left out ones made up for
        by the others.
        """
        entry, have = self.entries[name], self.source.in_channels
        if entry.source is None or have == self.target.in_channels:
            return
        times = self.selector.select(IMAGE, IMAGE).multiplicities()
        scale = have / sum(number > 0 for number in times)
        self.entries[name] = replace(entry, divide=max(times) > 1, scale=entry.scale * scale)

    def _kernel(self, conv: Convolution, taken: Convolution) -> Kernel | None:
        if conv.groups != 1 and conv.shape != taken.shape:
            weight, other = f"{conv.name}.weight", f"{taken.name}.weight"
            raise MappingError(
                f"{weight} {list(conv.shape)} of {conv.groups} groups cannot be made from "
                f"{self.names.get(other, other)} {list(taken.shape)} of {taken.groups}",
                f"Use a target without groups, or one that has the source's ({self.source.describe()}).",
            )
        groups = taken.groups if conv.groups == 1 else 1
        if groups == 1 and conv.kernel == taken.kernel:
            return None
        return Kernel(taken.kernel, conv.kernel, self.rules.kernels, groups)

    def norm(self, name: str, other: str | None, *, weighs: bool) -> None:
        if other is None:
            for part in NORM_PARTS:
                self.keep(f"{name}.{part}", "random", "no BatchNorm of the source stands here: the target's own start")
            return
        rows = self.selection(self.ours.norms[name], self.theirs.norms[other])
        for part in NORM_PARTS:
            # An averaged channel's gamma and mean are those of its averaged kernel.
            weighed = other if weighs and part in ("weight", "running_mean") else None
            self.take(f"{name}.{part}", f"{other}.{part}", rows=rows, norm=weighed)

    def random(self, conv: Convolution, reason: str) -> None:
        """A convolution and its BatchNorm keep the target's own start."""
        self.keep(f"{conv.name}.weight", "random", reason)
        for part in NORM_PARTS if conv.norm is not None else ():
            self.keep(f"{conv.norm}.{part}", "random", reason)

    def folded(self, conv: Convolution, norm: str | None, stride: int) -> Folded:
        """``conv`` as what is folded into the convolution behind it, with the ``norm`` between them."""
        gamma, variance = (None if norm is None else self.keys_of(norm)) or (None, None)
        return Folded(self.names[f"{conv.name}.weight"], gamma, variance, stride, conv.groups)

    def behind(self, taken: Convolution) -> str | None:
        """The source's norm that what ``taken`` gives goes through.

        Before activations (v2) it is the next convolution's; behind a block's last there is none, for the sum comes
        first.
        """
        if not taken.norm_first:
            return taken.norm
        place = int(taken.name[-1]) + 1
        norm = f"{taken.name.rpartition('.')[0]}.norm{place}"
        return norm if norm in self.theirs.norms else None

    def beside(self, taken: Convolution) -> str | None:
        """The source's norm whose place is that of a target convolution's which is made of ``taken``."""
        return taken.norm if self.target.preactivation else self.behind(taken)
