"""What a step is recorded to depend on, where a foreign file leaves a choice."""

from __future__ import annotations

from idsnn_cli.pipeline.steps.base import step
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe


def sections(name: str, *overrides: str) -> dict[str, object]:
    return step(name).settings(Workspace(load_recipe("quickstart", overrides).recipe, "q"))


def test_a_choice_counts_where_a_foreign_file_is_read() -> None:
    for choice in ("teacher.weights=raw", "teacher.allow_unused=true"):
        foreign = "teacher.checkpoint=theirs.pth"
        assert sections("teacher", foreign) != sections("teacher", foreign, choice)
        assert sections("init") != sections("init", choice)
        assert sections("distill") != sections("distill", choice)


def test_a_teacher_that_is_trained_here_does_not_depend_on_it() -> None:
    plain = sections("teacher")
    assert plain == sections("teacher", "teacher.weights=raw", "teacher.allow_unused=true")
    assert plain != sections("teacher", "teacher.lr=0.123")
