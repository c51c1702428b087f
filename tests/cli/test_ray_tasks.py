"""Tasks of Ray, by a stand-in: what is asked for, how they end, and that they are cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from idsnn_cli.cli.launchers import Ended
from idsnn_cli.cli.launchers.ray import RAY, Tasks, _require_room
from idsnn_cli.errors import JobError, UsageError


class FakeRay:
    """As much of Ray as tasks ask for: some are done, some raise when their results are got, some run."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results, self.cancelled, self.closed = results, list[str](), False

    def wait(self, references: list[str], *, num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == len(references)
        done = [each for each in references if self.results[each] is not None]
        return done, [each for each in references if each not in done]

    def get(self, reference: str) -> int:
        found: Any = self.results[reference]
        if isinstance(found, Exception):
            raise found
        return int(found)

    def cancel(self, reference: str, *, force: bool) -> None:
        assert not force
        self.cancelled.append(reference)

    def shutdown(self) -> None:
        self.closed = True


def test_ray_is_not_waited_for_where_no_machine_has_what_a_job_is_given() -> None:
    nodes: list[dict[str, float]] = [{"CPU": 2.0, "memory": 1e9}, {"CPU": 1.0, "GPU": 1.0}]
    for wanted in ({"CPU": 2, "GPU": 0}, {"CPU": 0, "GPU": 0.5}, {"CPU": 1, "GPU": 1}):
        _require_room(wanted, nodes)
    for wanted, words in (({"CPU": 2, "GPU": 1}, "CPU 2 of 2, GPU 1 of 1"), ({"CPU": 1, "GPU": 2}, "GPU 2 of 1")):
        with pytest.raises(JobError, match=words):
            _require_room(wanted, nodes)
    with pytest.raises(JobError, match="CPU 1 of 0"):
        _require_room({"CPU": 1, "GPU": 0}, [])


@pytest.mark.parametrize("word", ["gpus=1.5", "cpus=2.25"])
def test_ray_gives_no_one_and_a_half(word: str) -> None:
    pytest.importorskip("ray")
    key, _, value = word.partition("=")
    with pytest.raises(UsageError, match="above 1 and no whole number"):
        RAY.require({key: value})
    RAY.require({key: "0.25"})


def test_tasks_of_ray_are_read_and_cancelled() -> None:
    fake = FakeRay({"a": 0, "b": 4, "c": RuntimeError("the node was lost"), "d": None})
    tasks = Tasks(fake, ["a", "b", "c", "d"])
    assert tasks.ended() == [Ended(0), Ended(4), Ended(1, "the node was lost"), None]
    tasks.stop()
    assert (fake.cancelled, fake.closed) == (["d"], True)
