"""Making a plan: every target tensor's counterpart in the source, by the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from idsnn_cli.architecture import Architecture, Convolution
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer.blocks import choose_blocks
from idsnn_cli.initializer.clusters import cluster
from idsnn_cli.initializer.findings import Findings
from idsnn_cli.initializer.kernels import Folded, Kernel
from idsnn_cli.initializer.plan import NORM_PARTS, Action, BlockPair, Entry, Plan
from idsnn_cli.initializer.selections import Selection, Selector
from idsnn_cli.initializer.spaces import channel_spaces
from idsnn_cli.rules import Rules


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
        self.ours, self.theirs = channel_spaces(target), channel_spaces(source)
        self.selector = Selector(
            rules.channels, self.theirs, self.ours, found.scores, found.correlations, cluster, seed
        )
        self.blocks = choose_blocks(source, target, rules, found.blocks)
        self.entries: dict[str, Entry] = {}
        self.selections: list[Selection] = []
        self.places: dict[tuple[str, str], int | None] = {}
        # Target space -> the source spaces that it is made of, for the rule threshold.
        self.made_of: dict[str, set[str]] = {}

    def keep(self, name: str, action: Action, reason: str) -> None:
        self.entries[name] = Entry(name, self.target_shapes[name], action, reason=reason)

    def selection(self, target: str, source: str) -> int | None:
        """The place of a choice of channels in the plan; None where it is a plain loop, or all in order."""
        if (target, source) not in self.places:
            self.made_of.setdefault(target, set()).add(source)
            chosen = self.selector.select(target, source)
            plain = all(each == (c % chosen.of,) for c, each in enumerate(chosen.channels))
            self.places[target, source] = None if plain else self._placed(chosen)
        return self.places[target, source]

    def _placed(self, chosen: Selection) -> int:
        self.selections.append(chosen)
        return len(self.selections) - 1

    def take(
        self,
        name: str,
        canonical: str,
        *,
        scale: float = 1.0,
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
            scale,
            rows=rows,
            columns=columns,
            kernel=kernel,
            norm=self._keys(norm) if merges and norm is not None else None,
            divide=weights and self.rules.multiplicity == "divide",
            noise=self.rules.noise if weights and grows else 0.0,
        )
        whole = (rows, columns, kernel, scale, shape) == (None, None, None, 1.0, from_shape)
        self.entries[name] = replace(entry, action="copied", divide=False) if whole else entry

    def _repeats(self, rows: int | None, have: int, want: int) -> bool:
        if rows is None:
            return want > have
        return max(self.selections[rows].multiplicities(), default=0) > 1

    def _keys(self, norm: str) -> tuple[str, str] | None:
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
        scale = 1.0
        if self.rules.rescale == "variance":
            scale = math.sqrt(taken.out_channels * taken.kernel**2 / (conv.out_channels * conv.kernel**2))
        self.take(
            f"{conv.name}.weight",
            f"{taken.name}.weight",
            scale=scale,
            rows=rows,
            columns=columns if conv.groups == 1 else None,
            kernel=kernel,
            norm=self.behind(taken) if conv.norm_first else norm,
            weights=True,
        )
        if conv.norm is not None:
            # A stream that several norms read is averaged as it is.
            self.norm(conv.norm, norm, weighs=not (conv.norm_first and conv.name.endswith("conv0")))

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

    def order(self) -> None:
        """Raises :class:`MappingError` where the target alone has its BatchNorm before the convolutions."""
        if self.target.preactivation and not self.source.preactivation:
            ours, theirs = (net.block_convolutions(0, 0)[0] for net in (self.target, self.source))
            norm, other = f"{ours.norm}.weight", f"{theirs.norm}.weight"
            raise MappingError(
                f"{norm} {list(self.target_shapes[norm])} cannot be made from {self.names.get(other, other)} "
                f"{list(self.source_shapes[other])}: a BatchNorm behind a convolution does not become one before it",
                "Use a source with pre-activation, as the target is.",
            )

    def stem(self) -> None:
        """Raises :class:`MappingError` where the target's stem has more convolutions than one and than the source's."""
        ours, theirs = self.target.stem_convolutions(), self.source.stem_convolutions()
        norms = [conv.norm for conv in theirs]
        if self.source.preactivation and not self.target.preactivation:
            norms[-1] = "stages.0.0.norm0"
        if len(ours) == len(theirs):
            for conv, taken, norm in zip(ours, theirs, norms, strict=True):
                self.convolution(conv, taken, norm)
            return
        if len(ours) != 1:
            weight, other = f"{ours[0].name}.weight", f"{theirs[0].name}.weight"
            raise MappingError(
                f"{weight} {list(ours[0].shape)} cannot be made from {self.names.get(other, other)} "
                f"{list(theirs[0].shape)}: a stem of {len(theirs)} convolutions does not become one of {len(ours)}",
                "Use a source with a deep stem, as the target's is.",
            )
        size, stride = theirs[0].kernel, theirs[0].stride
        for conv in theirs[1:]:
            size, stride = size + (conv.kernel - 1) * stride, stride * conv.stride
        before = tuple(self.folded(conv, conv.norm, conv.stride) for conv in theirs[:-1])
        kernel = Kernel(size, ours[0].kernel, self.rules.kernels, 1, before)
        self.convolution(ours[0], theirs[-1], norms[-1], kernel=kernel, reads=self.theirs.reads[theirs[0].name])

    def folded(self, conv: Convolution, norm: str | None, stride: int) -> Folded:
        """``conv`` as what is folded into the convolution behind it, with the ``norm`` between them."""
        gamma, variance = (None if norm is None else self._keys(norm)) or (None, None)
        return Folded(self.names[f"{conv.name}.weight"], gamma, variance, stride, conv.groups)

    def block(self, stage: int, block: int) -> BlockPair:
        ours = self.target.block_convolutions(stage, block)
        projection = self.target.shortcut_convolution(stage, block)
        if stage >= len(self.source.depths):
            reason = f"the source has no stage {stage}"
            for conv in (*ours, *((projection,) if projection else ())):
                self.random(conv, reason)
            for name in self.target.attention_tensors(stage, block):
                self.keep(name, "random", reason)
            return BlockPair(stage, block, None)
        chosen = self.blocks[stage][block]
        theirs = self.source.block_convolutions(stage, chosen)
        notes = []
        if len(ours) == len(theirs):
            for conv, taken in zip(ours, theirs, strict=True):
                self.convolution(conv, taken, self.beside(taken))
        else:
            notes += self.bottleneck(ours, theirs)
        notes += self.attention(stage, block, chosen)
        notes += self.shortcut(stage, block, chosen, projection)
        return BlockPair(stage, block, chosen, "; ".join(notes) or None)

    def bottleneck(self, ours: tuple[Convolution, ...], theirs: tuple[Convolution, ...]) -> list[str]:
        """A basic block of a bottleneck. Raises :class:`MappingError` for the other way round."""
        if len(ours) > len(theirs):
            mine, other = f"{ours[0].name}.weight", f"{theirs[0].name}.weight"
            raise MappingError(
                f"{mine} {list(self.target_shapes[mine])} cannot be made from {self.names.get(other, other)} "
                f"{list(self.source_shapes[other])}: a basic block does not become a bottleneck one",
                "Use a source of bottleneck blocks (ResNet-50, ResNet-101 or ResNet-152).",
            )
        reduce, middle, expand = theirs
        groups = middle.groups
        if self.rules.bottleneck == "drop":
            for conv in ours:
                kernel = Kernel(middle.kernel, conv.kernel, self.rules.kernels, groups) if groups > 1 else None
                self.convolution(conv, middle, self.beside(middle), kernel=kernel)
            keys = [self.names.get(f"{conv.name}.weight", conv.name) for conv in (reduce, expand)]
            return [f"{keys[0]} and {keys[1]} and their BatchNorms are left out: both 3x3 take the bottleneck's"]
        # A stride in the 1x1 counts as one in the 3x3, so that the taps stay beside each other.
        before = (self.folded(reduce, self.behind(reduce), 1),)
        kernel = Kernel(middle.kernel, ours[0].kernel, self.rules.kernels, groups, before)
        # Of what stands before the folded two, and of what stands behind them.
        norm = reduce.norm if self.target.preactivation else self.behind(middle)
        self.convolution(ours[0], middle, norm, kernel=kernel, reads=self.theirs.reads[reduce.name])
        self.convolution(ours[1], expand, self.beside(expand))
        return []

    def shortcut(self, stage: int, block: int, chosen: int, projection: Convolution | None) -> list[str]:
        theirs = self.source.shortcut_convolution(stage, chosen)
        if projection is None:
            if theirs is None:
                return []
            key = self.names.get(f"{theirs.name}.weight", f"{theirs.name}.weight")
            return [f"{key} and its BatchNorm are left out: the target's shortcut here has no weights"]
        if self.rules.shortcut == "random":
            self.random(projection, "the rule shortcut: random")
        elif theirs is not None:
            self.convolution(projection, theirs, theirs.norm)
        elif self.rules.bare_shortcut == "select":
            self._select(projection, stage)
        else:
            self.random(projection, f"the source's block {stage}.{chosen} has no projection")
        return []

    def _select(self, projection: Convolution, stage: int) -> None:
        """A projection that passes on the channels that the source's option-A shortcut, or its identity, does."""
        out, into = f"stages.{stage}", self.theirs.nested.get(f"stages.{stage}")
        offset, entry = (into.offset, into.inner) if into else (0, self.theirs.linked(out))
        read = self._chosen(self.ours.reads[projection.name], entry)
        written = self._chosen(self.ours.writes[projection.name], out)
        places = {channel: place for place, each in reversed(list(enumerate(read))) for channel in each}
        picks = tuple(places.get(each[0] - offset, -1) if each else -1 for each in written)
        reason = f"a selection of channels, {sum(p >= 0 for p in picks)} of {len(picks)}, the others random"
        name = f"{projection.name}.weight"
        self.entries[name] = Entry(name, self.target_shapes[name], "constant", reason=reason, picks=picks)
        for part in NORM_PARTS if projection.norm is not None else ():
            self.keep(f"{projection.norm}.{part}", "random", "the source has no such BatchNorm: the target's own start")

    def _chosen(self, target: str, source: str) -> tuple[tuple[int, ...], ...]:
        return self.selector.select(target, source).channels

    def attention(self, stage: int, block: int, chosen: int) -> list[str]:
        """A block's attention, and what of the source's has no place in the target."""
        ours, theirs = self.target.attention_tensors(stage, block), self.source.attention_tensors(stage, chosen)
        if not ours:
            keys = [self.names.get(name, name) for name in theirs]
            rest = f" and {len(keys) - 1} tensors beside it are" if len(keys) > 1 else " is"
            return [f"{keys[0]}{rest} left out: the target has no attention"] if keys else []
        # A kernel over neighbouring channels cannot be looped over, as weights of channels can.
        kinds = [(network.attention, network.attention_bias) for network in (self.source, self.target)]
        fits = kinds[0] == kinds[1] and not (
            self.target.attention == "eca" and list(ours.values()) != list(theirs.values())
        )
        stream = self.selection(f"stages.{stage}", f"stages.{stage}")
        for name, other in zip(ours, theirs if fits else ours, strict=True):
            if not fits:
                self.keep(name, "random", f"the source's block {stage}.{chosen} has no such attention")
                continue
            axes = {"reduce.weight": (None, stream), "expand.weight": (stream, None), "expand.bias": (stream, None)}
            rows, columns = axes.get(name.partition(".attention.")[2], (None, None))
            self.take(name, other, rows=rows, columns=columns, weights=name.endswith("weight"))
        return []

    def head(self) -> None:
        names = ("head.weight", "head.bias")
        classes = (self.source.num_classes, self.target.num_classes)
        unlike = "head.weight" not in self.names or classes[0] != classes[1]
        if self.rules.head == "random" or (self.rules.head == "match" and unlike):
            for name in names:
                self.keep(name, "random", f"the rule head: {self.rules.head}")
            return
        if "head.weight" not in self.names or (self.rules.head == "copy" and classes[0] != classes[1]):
            found = f"{classes[0]} classes" if "head.weight" in self.names else "no linear layer"
            raise MappingError(
                f"head.weight {list(self.target_shapes['head.weight'])} cannot be copied: the source has {found}",
                "Use head: random, head: map with a class_map, or a source with the target's classes.",
            )
        rows = self._classes(*classes) if self.rules.head == "map" else None
        columns = self.selection(self.ours.features, self.theirs.features)
        self.take("head.weight", "head.weight", rows=rows, columns=columns, weights=True)
        self.take("head.bias", "head.bias", rows=rows)

    def _classes(self, have: int, want: int) -> int:
        mapped = self.rules.class_map
        if len(mapped) != want or any(c is not None and not 0 <= c < have for c in mapped):
            raise MappingError(
                f"class_map names {len(mapped)} classes, of 0 to {max((c for c in mapped if c is not None), default=0)}"
                f": the target has {want}, the source 0 to {have - 1}",
                "Give one source class, or null, for each target class.",
            )
        return self._placed(Selection("classes", "classes", have, tuple(() if c is None else (c,) for c in mapped)))

    def input(self) -> None:
        for name in ("input.mean", "input.std"):
            if name in self.names:
                self.take(name, name)
            else:
                self.keep(name, "constant", "the source does not carry its input normalisation: the given one")

    def balance(self) -> None:
        """Threshold balancing: what a ReLU gave as lambda, the neuron gives as one spike a step.

        gamma and beta times v_threshold / lambda of the space that the norm writes; the statistics and the linear layer
        follow their inputs, which are lambda times smaller. Spaces that identities join share the largest lambda.
        """
        if self.target.kind != "spiking":
            raise UsageError("rescale: threshold is for a spiking target", "Use rescale: none.")
        largest: dict[str, float] = {}
        for space, sources in self.made_of.items():
            known = [self.found.thresholds[each] for each in sources if each in self.found.thresholds]
            root = self.ours.linked(space)
            largest[root] = max([*known, largest.get(root, 0.0)])
        if not any(largest.values()):
            raise UsageError("rescale: threshold needs images", "Give the data set, or another rule.")

        def limit(space: str) -> float:
            return largest.get(self.ours.linked(space)) or 1.0

        for conv in self.target.convolutions():
            into, out = 1.0 / limit(self.ours.reads[conv.name]), limit(self.ours.writes[conv.name])
            fire = self.target.neuron.v_threshold / out
            for part, scale in (("weight", fire), ("bias", fire), ("running_mean", into), ("running_var", into**2)):
                self._scale(f"{conv.norm}.{part}", scale)
        self._scale("head.weight", limit(self.ours.features))

    def _scale(self, name: str, scale: float) -> None:
        entry = self.entries.get(name)
        if entry is not None and entry.source is not None and scale != 1.0:
            self.entries[name] = replace(entry, scale=entry.scale * scale, action="interpolated")


def make_plan(
    source: Architecture,
    target: Architecture,
    names: Mapping[str, str],
    rules: Rules,
    found: Findings | None = None,
    seed: int = 0,
) -> Plan:
    """Plan how ``target`` starts from ``source``.

    ``names`` holds, for every tensor that the source has, its canonical name and the source's own key for it; ``found``
    what rules that look at weights or activations need; ``seed`` is for the rule ``random``. Raises
    :class:`MappingError`, naming both tensors, where a target tensor cannot be made by the rules, and
    :class:`UsageError` where a rule's facts are not in ``found``.
    """
    planner = Planner(source, target, names, rules, found or Findings(), seed)
    planner.input()
    planner.order()
    planner.stem()
    pairs = tuple(planner.block(stage, block) for stage, block in target.blocks())
    if target.preactivation and target.final_norm:
        planner.norm("final_norm", "final_norm" if source.final_norm else None, weighs=False)
    planner.head()
    for name in planner.target_shapes:
        if name.endswith("num_batches_tracked"):
            planner.keep(name, "constant", "no batch has been seen yet")
    if rules.rescale == "threshold":
        planner.balance()
    entries = tuple(planner.entries[name] for name in planner.target_shapes)
    return Plan(source, target, rules, pairs, entries, tuple(planner.selections))


def count_values(source: Architecture, target: Architecture, names: Mapping[str, str], rules: Rules) -> dict[str, int]:
    """How many of the target's values would end as each action, found without running the source.

    Raises :class:`MappingError` as :func:`make_plan` does.
    """
    # Other blocks or channels, and any lambda, are as many values.
    blocks = "proportional" if rules.blocks == "greedy" else rules.blocks
    channels = "uniform" if rules.channels == "merge" else rules.channels
    found = Findings(thresholds=dict.fromkeys(channel_spaces(source).sizes, math.e))
    return make_plan(source, target, names, replace(rules, blocks=blocks, channels=channels), found).counts()
