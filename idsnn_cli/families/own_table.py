"""What a row of a user's own table may say."""

from __future__ import annotations

import re

from idsnn_cli.families.matching import LEAVES, kind_of

_ANY_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_PLACEHOLDER = re.compile(r"\{([sbi])(?:\+[0-9])?\}")
_BLOCK = r"stages\.N\.N\.(convN|normN|shortcut\.(conv|norm)|attention\.(reduce|expand|mix))"
_CANONICAL = re.compile(rf"input|stem\.(N\.)?(conv|norm)|{_BLOCK}|final_norm|head")


def source_fault(pattern: str, *, wild: bool) -> str | None:
    """What is wrong with a pattern of names in a file, in words; ``wild`` allows ``{*}``."""
    if not pattern:
        return "is empty"
    names = []
    for braces in _ANY_BRACES.findall(pattern):
        found = _PLACEHOLDER.fullmatch(braces)
        if found is not None:
            names.append(found[1])
        elif braces == "{*}" and not wild:
            return "has {*}, which only patterns under dropped may have"
        elif braces != "{*}":
            return f"has {braces}; placeholders are {{s}}, {{b}} and {{i}}, from 1 {{s+1}}, and {{*}} under dropped"
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return f"has {{{twice[0]}}} twice" if twice else None


def canonical_fault(source: str, canonical: str) -> str | None:
    """What is wrong with the canonical name, of a module or of a tensor, that stands beside a pattern."""
    plain = re.sub(r"(?<![0-9])[0-9]+(?![0-9])", "N", _PLACEHOLDER.sub("N", canonical))
    module, _, leaf = plain.rpartition(".")
    known = _CANONICAL.fullmatch(plain) or (
        _CANONICAL.fullmatch(module) and leaf in LEAVES[kind_of(module.replace("N", ""))]
    )
    if not known:
        return "is no canonical name, such as stem.conv, stages.{s}.{b}.norm{i}, stages.{s}.{b}.shortcut.conv or head"
    left, right = (sorted(_PLACEHOLDER.findall(text)) for text in (source, canonical))
    if left != right:
        return "does not have the placeholders of its pattern, each once"
    return None
