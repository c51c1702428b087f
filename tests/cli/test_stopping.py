"""SIGINT and SIGTERM end the process whatever they meet: exit code 130 or 143, no traceback, nothing swallowed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idsnn_cli.training.progress import stop_on_signals

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
data: {dataset: digits, subset: 50, test_subset: 20, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 2, batch_size: 10}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
distill: {epochs: 2, batch_size: 10, baseline: plain}
runtime: {threads: 1, save_every_minutes: 0.0001}
"""
SWALLOWING = {
    "destructor": """
class Loud:
    def __del__(self):
        os.kill(os.getpid(), NUMBER)
        for _ in range(1000):
            pass
Loud()
time.sleep(20)
""",
    "everything": """
try:
    os.kill(os.getpid(), NUMBER)
    time.sleep(20)
except BaseException:
    pass
time.sleep(20)
""",
    "error-of-its-own": """
try:
    os.kill(os.getpid(), NUMBER)
    time.sleep(20)
except BaseException:
    raise ValueError("could not determine the shape")
""",
    "exit-of-its-own": """
try:
    os.kill(os.getpid(), NUMBER)
    time.sleep(20)
finally:
    sys.exit(0)
""",
    "at-the-end": """
try:
    os.kill(os.getpid(), NUMBER)
    time.sleep(20)
except BaseException:
    pass
""",
    "import": """
import tempfile
folder = tempfile.mkdtemp()
lines = ["import os", "try:", "    os.kill(os.getpid(), NUMBER)", "    sum(range(9999))", "except BaseException:"]
with open(os.path.join(folder, "aborting.py"), "w") as file:
    file.write("\\n".join([*lines, "    os.abort()"]))
sys.path.insert(0, folder)
import aborting
time.sleep(20)
""",
    "in-a-long-clean-up": """
try:
    os.kill(os.getpid(), NUMBER)
    time.sleep(20)
finally:
    time.sleep(1.5)
    print("cleaned up", flush=True)
""",
}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", SWALLOWING)
def test_a_stop_that_is_swallowed_comes_again(place: str, number: signal.Signals, tmp_path: Path) -> None:
    swallowed(place, number, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", SWALLOWING)
def test_it_does_where_the_system_has_no_timer(place: str, tmp_path: Path) -> None:
    """As Windows has none: a thread reminds of it."""
    swallowed(place, signal.SIGINT, tmp_path, "import signal\ndel signal.setitimer, signal.SIGALRM\n")


def swallowed(place: str, number: signal.Signals, tmp_path: Path, first: str = "") -> None:
    body = "".join(f"    {line}\n" for line in SWALLOWING[place].replace("NUMBER", str(int(number))).splitlines())
    program = (
        f"{first}import os, sys, time\nfrom idsnn_cli.cli.stopping import until_stopped\n"
        f"def work():\n{body}    return 0\nuntil_stopped(work)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment() | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 128 + number
    assert done.stderr == ""
    assert ("cleaned up" in done.stdout) == (place == "in-a-long-clean-up")


def test_without_a_stop_code_and_error_are_the_works_own() -> None:
    program = "from idsnn_cli.cli.stopping import until_stopped\nuntil_stopped(lambda: {})"
    codes = {}
    for words in ("7", "1 / 0"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(words)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        codes[words] = done.returncode, "ZeroDivisionError" in done.stderr
    assert codes == {"7": (7, False), "1 / 0": (1, True)}


def interrupted(failure: Exception | None = None) -> None:
    """A training whose last batch is done when the signal comes."""
    with stop_on_signals() as request:
        signal.raise_signal(signal.SIGINT)
        assert request
        if failure is not None:
            raise failure


def test_a_stop_that_training_has_no_batch_left_to_heed_acts_behind_it() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(ValueError, match="its own"):
            interrupted(ValueError("its own"))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_run_that_is_interrupted_at_any_moment_ends_as_interrupted(tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "idsnn_cli", "run", str(recipe), "--run-dir", str(tmp_path / "run")]
    rng = random.Random(5)
    stopped = 0
    for number in range(6):
        printed = tmp_path / f"{number}.txt"
        with (
            printed.open("w") as stdout,
            subprocess.Popen(
                command,
                env=environment(),
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            ) as child,
        ):
            time.sleep(rng.uniform(0.5, 4.5))
            running = child.poll() is None
            child.send_signal(signal.SIGINT)
            # What has told its last line may be leaving already, with 0, while the system takes back its memory.
            done = "Next: " in printed.read_text()
            _, said = child.communicate(timeout=60)
        assert "Traceback" not in said
        # One that all work was done before ends by the signal itself, which a shell tells as 130, too.
        codes = {130, -signal.SIGINT, *([0] if done else [])}
        assert not running or child.returncode in codes, said
        stopped += running
    assert stopped >= 1
