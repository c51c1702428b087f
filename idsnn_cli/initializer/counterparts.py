"""Making a plan: every part of the target's network, and its counterpart in the source."""

from __future__ import annotations

from collections.abc import Mapping

from idsnn_cli.architecture import DECAY_LOGIT, START_SHIFT, Architecture, Convolution, is_scale
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer.conversion import apart, lambdas_apart, learnt_lambdas
from idsnn_cli.initializer.entries import Findings, Planner
from idsnn_cli.initializer.kernels import Kernel
from idsnn_cli.initializer.limits import limits_kept
from idsnn_cli.initializer.plan import DECAY_START, NORM_PARTS, BlockPair, Entry, Plan, constant_reason
from idsnn_cli.initializer.selections import IMAGE, Selection
from idsnn_cli.rulebook import NONE
from idsnn_cli.rules import Rules


class _Network(Planner):
    """The parts of a network, each from its counterpart."""

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

    def amplitudes(self) -> None:
        """Raises :class:`MappingError` where the source's kernels were trained on spikes that do not count one, or on
        those of thresholds or starts that it learnt.
        """
        learnt = [name for name in self.source_shapes if is_scale(name)]
        if learnt:
            what = "a spike's amplitude" if ".amplitude" in learnt[0] else "a learnt threshold's"
            raise MappingError(
                f"{self.names.get(learnt[0], learnt[0])} is {what}, for which the target has no place: "
                "its spikes count 1, and its thresholds are one, at first",
                "Start from the network that the source was started from.",
            )
        starts = [name for name in self.source_shapes if name.endswith(f".{START_SHIFT}")]
        if starts:
            raise MappingError(
                f"{self.names.get(starts[0], starts[0])} is what neurons learnt to start with, for which the target "
                "has no place: its neurons start alike at first",
                "Start from the network that the source was started from.",
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

    def block(self, stage: int, block: int) -> BlockPair:
        ours = self.target.block_convolutions(stage, block)
        projection = self.target.shortcut_convolution(stage, block)
        if stage >= len(self.source.depths) or not self.source.depths[stage]:
            reason = (
                f"the source has no {'stage' if stage >= len(self.source.depths) else 'block in its stage'} {stage}"
            )
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
        notes += self.decays_left(stage, chosen)
        if self.source.membranes and not self.target.membranes:
            notes.append("the source's block adds what no activation has seen, the target's what one gave")
        return BlockPair(stage, block, chosen, "; ".join(notes) or None)

    def bottleneck(self, ours: tuple[Convolution, ...], theirs: tuple[Convolution, ...]) -> list[str]:
        """A block of two convolutions of a bottleneck. Raises :class:`MappingError` for blocks of any other lengths."""
        if (len(ours), len(theirs)) != (2, 3):
            mine, other = f"{ours[0].name}.weight", f"{theirs[0].name}.weight"
            known = "; of three, only two are made" if len(theirs) == 3 else ""
            raise MappingError(
                f"{mine} {list(self.target_shapes[mine])} cannot be made from {self.names.get(other, other)} "
                f"{list(self.source_shapes[other])}: a block of {_count(theirs)} does not become one of "
                f"{_count(ours)}{known}",
                f"Use a source whose blocks have {_count(ours)}"
                + (" (ResNet-50, ResNet-101 or ResNet-152)." if len(ours) == 3 else "."),
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
        # A convolution over neighbouring channels cannot be looped over.
        fits = self.target.takes_attention(self.source) and (
            len(ours) > 1 or list(ours.values()) == list(theirs.values())
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

    def hidden(self) -> None:
        """The linear layers before the last: all of them, or where the source's are others none."""
        ours, theirs = self.target.hidden_layers(), self.source.hidden_layers()
        for i, layer in enumerate(ours):
            weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
            if not self._same_end():
                for name in (weight, bias):
                    self.keep(name, "random", "the source does not end in linear layers like these")
                continue
            rows = self.selection(self.ours.writes[layer.name], self.theirs.writes[theirs[i].name])
            columns = self.selection(self.ours.reads[layer.name], self.theirs.reads[theirs[i].name])
            if columns is not None and layer.side > 1:
                columns = self.placed(self.selections[columns].spread(layer.side**2))
            self.take(weight, f"{theirs[i].name}.weight", rows=rows, columns=columns, weights=True)
            self.take(bias, f"{theirs[i].name}.bias", rows=rows)

    def _same_end(self) -> bool:
        """Whether the last linear layers of both networks read the same: maps, or as many linear layers over maps."""
        sides = [[layer.side for layer in net.hidden_layers()] for net in (self.source, self.target)]
        return sides[0] == sides[1]

    def head(self) -> None:
        names = ("head.weight", "head.bias")
        classes = (self.source.num_classes, self.target.num_classes)
        unlike = "head.weight" not in self.names or classes[0] != classes[1] or not self._same_end()
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
        if not self._same_end():
            counts = [len(net.hidden_layers()) + 1 for net in (self.source, self.target)]
            raise MappingError(
                f"head.weight {list(self.target_shapes['head.weight'])} cannot be copied: the source ends in "
                f"{counts[0]} linear layers, the target in {counts[1]}, or they read other pixels",
                "Use head: match, which leaves it random then, or head: random.",
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
        return self.placed(Selection("classes", "classes", have, tuple(() if c is None else (c,) for c in mapped)))

    def decays(self) -> None:
        """The decay of each layer of neurons from that of the source's which read what its own convolution, or linear
        layer, was made from; where the source has none there, the target's own start.
        """
        if self.target.learn_decay == "none":
            return
        learnt = [name.removesuffix(f".{DECAY_LOGIT}") for name in self.names if name.endswith(f".{DECAY_LOGIT}")]
        behind = {act: layer for act, layer in self.source.neuron_layers().items() if act in learnt} if learnt else {}
        # A foreign file's neurons tell of SEW blocks, its description of an ANN does not.
        behind |= {act: act.replace("shortcut_act", "shortcut.conv") for act in learnt if act.endswith("shortcut_act")}
        acts = {layer: act for act, layer in behind.items()}
        taken = {conv.name: other.name for conv, other in self.taken}
        if self._same_end():
            taken |= {layer.name: layer.name for layer in self.target.hidden_layers()}
        for act, layer in self.target.neuron_layers().items():
            name, other = f"{act}.{DECAY_LOGIT}", acts.get(taken.get(layer, ""))
            if other is None:
                self.keep(name, "constant", DECAY_START)
            else:
                self.entries[name] = Entry(name, (), "copied", self.names[f"{other}.{DECAY_LOGIT}"], ())

    def decays_left(self, stage: int, chosen: int) -> list[str]:
        """What a source's block learnt that a target of one decay for all has no place for, in words."""
        at = f"stages.{stage}.{chosen}."
        keys = [key for name, key in self.names.items() if name.startswith(at) and name.endswith(f".{DECAY_LOGIT}")]
        if self.target.kind != "spiking" or self.target.learn_decay != "none" or not keys:
            return []
        return [f"the learnt decays {' and '.join(keys)} are left out: the target's neurons have one for all"]

    def input(self) -> None:
        for name in ("input.mean", "input.std"):
            if name in self.names:
                self.take(name, name, rows=self.selection(IMAGE, IMAGE))
            else:
                self.keep(name, "constant", "the source does not carry its input normalisation: the given one")


def _count(convolutions: tuple[Convolution, ...]) -> str:
    return f"{len(convolutions)} convolution{'' if len(convolutions) == 1 else 's'}"


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
    what rules that look at weights or activations need; ``seed`` is for those that draw. Raises
    :class:`MappingError`, naming both tensors, where a target tensor cannot be made by the rules, and
    :class:`UsageError` where a rule's facts are not in ``found``.
    """
    planner, pairs = planned(source, target, names, rules, found or Findings(), seed)
    learnt, lambdas = planner.found.learnt, dict[str, float]()
    if learnt and apart(source) and rules.convert != NONE:
        lambdas = lambdas_apart(target, pairs, learnt)
    elif learnt:
        lambdas = learnt_lambdas(planner.written_of(), planner.ours, learnt)
    entries = tuple(planner.entries[name] for name in planner.target_shapes)
    return Plan(source, target, rules, pairs, entries, tuple(planner.selections), lambdas)


def planned(
    source: Architecture, target: Architecture, names: Mapping[str, str], rules: Rules, found: Findings, seed: int
) -> tuple[Planner, tuple[BlockPair, ...]]:
    """A planner that has planned every part, and whose blocks take which."""
    planner = _Network(source, target, names, rules, found, seed)
    planner.input()
    planner.amplitudes()
    planner.order()
    planner.stem()
    pairs = tuple(planner.block(stage, block) for stage, block in target.blocks())
    if target.preactivation and target.final_norm:
        planner.norm("final_norm", "final_norm" if source.final_norm else None, weighs=False)
    planner.hidden()
    planner.head()
    planner.decays()
    for name, other in limits_kept(source, target, names, pairs).items():
        planner.entries[name] = Entry(name, (), "copied", names[other], ())
    for name in planner.target_shapes:
        reason = constant_reason(name)
        if reason is not None and name not in planner.entries:
            planner.keep(name, "constant", reason)
    planner.rescale()
    return planner, pairs
