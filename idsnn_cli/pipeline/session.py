"""One command's work on one run directory: the recipe, the paths, the device, the data, the lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from idsnn_cli.checkpoint import write_text
from idsnn_cli.data import DataBundle, Split, load_data, plan_data
from idsnn_cli.errors import DataError, RunLockedError, UsageError, WriteError
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.recipe import Recipe, dump_resolved
from idsnn_cli.recipe.schema import Training
from idsnn_cli.training import Events, is_main, keep_freed_memory, resolve_device

Step = Literal["teacher", "pretrain", "init", "distill", "baseline", "eval"]


@dataclass
class Session:
    """``text`` is the recipe as given, None where it came out of a checkpoint or from options.

    ``standalone`` says that the command reads and writes files that it names, and ``run_dir`` means nothing (``idsnn
    init --from``, ``idsnn eval --checkpoint``). ``num_classes_given`` are the student's classes where no data says so;
    ``data_given`` is False where the recipe's data section only fills its place (``idsnn init --from``). ``remembered``
    is for what one step found out and another would have to find again.
    """

    recipe: Recipe
    name: str
    run_dir: Path
    text: str | None = None
    standalone: bool = False
    num_classes_given: int | None = None
    data_given: bool = True
    force: bool = False
    events: Events = field(default_factory=Events)
    remembered: dict[tuple[str, object], Any] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def say_once(self, message: str) -> None:
        """Tell ``message``, which several steps may come upon, the first time only."""
        if message not in self._said:
            self._said.add(message)
            self.events.say(message)

    @cached_property
    def device(self) -> torch.device:
        return resolve_device(self.recipe.runtime.device)

    @cached_property
    def precision(self) -> str:
        """fp32 on the CPU and bf16 on CUDA where the recipe says auto (bf16 is slow on most CPUs)."""
        asked = self.recipe.runtime.precision
        if asked in ("fp16", "bf16") and self.device.type != "cuda":
            raise UsageError(
                f"runtime.precision is {asked}, which is for CUDA devices", "Use fp32 (or auto) on the CPU."
            )
        return ("bf16" if self.device.type == "cuda" else "fp32") if asked == "auto" else asked

    @cached_property
    def data(self) -> DataBundle:
        return load_data(
            self.recipe.data,
            seed=self.recipe.data_seed,
            max_memory_gb=self.recipe.runtime.max_memory_gb,
            device=self.device,
            say=self.events.say,
        )

    @property
    def has_data(self) -> bool:
        """Whether the data has been read already."""
        return "data" in self.__dict__

    @property
    def num_classes(self) -> int:
        """The student's classes; read off the data's files where that is enough."""
        if self.num_classes_given is not None:
            return self.num_classes_given
        planned = None if self.has_data else plan_data(self.recipe.data).num_classes
        return planned or self.data.num_classes

    def portable_recipe(self) -> dict[str, Any]:
        """The recipe that a checkpoint carries: without paths, and without data that is not its own."""
        plain = self.recipe.portable()
        if not self.data_given:
            del plain["data"]
        return plain

    def split(self, name: str) -> Split:
        """``test`` or ``validation``. Raises :class:`DataError` where the recipe keeps no validation images."""
        chosen = self.data.test if name == "test" else self.data.validation
        if chosen is None:
            raise DataError(
                f"the {self.data.name} data of this recipe has no validation images",
                "Set data.validation to a count or a fraction, or choose the test split.",
            )
        return chosen

    def file(self, step: Step, *, best: bool = False) -> Path:
        """The checkpoint that a step writes: its last epoch's, or the best one's."""
        last = self.run_dir / f"{'student' if step == 'distill' else step}.safetensors"
        return best_of(last) if best else last

    def kept(self, step: Step) -> Path:
        """The checkpoint of ``step`` that the next step reads, by the recipe's ``keep``."""
        section = training_of(self.recipe, step)
        untrained = section.epochs == 0 or (step == "teacher" and self.recipe.teacher.checkpoint is not None)
        return self.file(step, best=section.keep == "best" and not untrained)

    def folder(self, step: Step) -> Path:
        return self.run_dir / step

    def settle_process(self) -> None:
        """Set this process's threads as the recipe says, and let it keep freed memory where the CPU computes."""
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.recipe.runtime.threads is not None:
            torch.set_num_threads(self.recipe.runtime.threads)

    def write_recipe(self) -> None:
        """recipe.yaml as given and resolved.yaml with every default."""
        if is_main():
            if self.text is not None:
                write_text(self.run_dir / "recipe.yaml", self.text)
            write_text(self.run_dir / "resolved.yaml", dump_resolved(self.recipe))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory, which is made where it is missing; of several processes the main one holds it.

        The lock is the operating system's and ends with the process, however it ends. Raises
        :class:`RunLockedError` where another process holds it.
        """
        held: list[FileLock] = []
        decided_by_main(lambda: held.append(self._lock()))
        try:
            yield
        finally:
            for lock in held:
                lock.release()

    def _lock(self) -> FileLock:
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.run_dir / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise RunLockedError(
                f"another process works in {self.run_dir}", "Wait for it to end, or use another --run-dir."
            ) from None
        except OSError as error:
            raise WriteError(
                f"the run directory {self.run_dir} cannot be made or locked: {error.strerror}",
                "Choose another with --run-dir.",
            ) from None
        return lock


def training_of(recipe: Recipe, step: Step) -> Training:
    """The section by which ``step`` trains; the baseline trains as the student does."""
    return {"teacher": recipe.teacher, "pretrain": recipe.pretrain}.get(step, recipe.distill)


def best_of(path: Path) -> Path:
    """The file of the best epoch's weights, beside that of the last one's."""
    return path.with_name(f"{path.stem}.best{path.suffix}")


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did. ``outputs`` are the files it stands for; ``status`` is ``done`` or ``unchanged``."""

    step: Step
    status: Literal["done", "unchanged"]
    outputs: tuple[Path, ...]
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "status": self.status,
            "outputs": [str(path) for path in self.outputs],
            "figures": self.figures,
        }
