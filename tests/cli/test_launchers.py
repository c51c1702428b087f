"""Grids by the jobs of schedulers: submitit on this machine and on a stand-in for SLURM, and Ray."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from invoking import invoke

from idsnn_cli import extras
from idsnn_cli.cli import jobs
from idsnn_cli.cli.launchers import LAUNCHERS, Ended, Launched, Launcher
from idsnn_cli.cli.launchers._work import Work
from idsnn_cli.cli.launchers.slurm import SLURM, minutes
from idsnn_cli.errors import UsageError
from idsnn_cli.registry import names

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {dataset: digits, subset: 40, test_subset: 20, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 1, batch_size: 10}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
distill: {epochs: 1, batch_size: 10}
runtime: {threads: 1, device: cpu}
"""
GRID = ("run", "tiny.yaml", "--seeds", "0,1")

# As much of SLURM as submitit asks for: jobs are processes of this machine, whose numbers are those of the jobs.
SBATCH = """
import os, subprocess, sys
text = open(sys.argv[-1]).read()
open("sbatch.sh", "a").write(text)
number = str(1000 + sum(name.endswith(".pid") for name in os.listdir(os.environ["HOME"])))
# A copy, as SLURM keeps one: submitit gives its own another name as soon as this ends.
script = os.path.join(os.environ["HOME"], number + ".sh")
open(script, "w").write(text)
starts = 'echo $$ > "$HOME/$SLURM_JOB_ID.pid"; exec bash ' + script
open(os.path.join(os.environ["HOME"], number + ".pid"), "w").write("")
given = dict(os.environ, SLURM_JOB_ID=number, SLURM_NTASKS="1", SLURM_PROCID="0", SLURM_LOCALID="0",
             SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0", SLURM_JOB_NODELIST="here", SUBMITIT_EXECUTOR="slurm")
subprocess.Popen(["bash", "-c", starts], env=given, start_new_session=True, stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL)
print("Submitted batch job", number)
"""
SRUN = """
import os, sys
words = sys.argv[1:]
start = next(place for place, word in enumerate(words) if word.endswith(("python", "python3")) or "/python" in word)
os.execv(words[start], words[start:])
"""
SACCT = """
import glob, os
print("JobID|State|NodeList")
for path in glob.glob(os.path.join(os.environ["HOME"], "*.pid")):
    process, state = open(path).read().strip(), "RUNNING"
    try:
        os.kill(int(process or os.getpid()), 0)
    except OSError:  # what died is not waited for without end
        state = "COMPLETED"
    print(os.path.basename(path).removesuffix(".pid"), state, "here", sep="|")
"""
SCANCEL = """
import os, signal, sys
os.killpg(int(open(os.path.join(os.environ["HOME"], sys.argv[1] + ".pid")).read()), signal.SIGTERM)
"""


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins in front of the path, and the home where they keep what they know of jobs."""
    commands, home = tmp_path / "bin", tmp_path / "home"
    commands.mkdir()
    home.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", SCANCEL)):
        path = commands / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    return home


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def require_same(capsys: Capture, *words: str) -> str:
    """The grid by a launcher has the bytes of one process, and each training is told once; what was said."""
    alone = invoke(capsys, *GRID, "--run-dir", "alone", "--json")
    launched = invoke(capsys, *GRID, "--run-dir", "launched", "--json", *words)
    assert (alone.code, launched.code) == (0, 0), launched.err
    assert weights(Path("alone")) == weights(Path("launched"))
    assert [each["run"] for each in launched.document["grid"]] == ["seed=0", "seed=1"]
    said = launched.err.splitlines()
    epochs = [line.split(": ", 1)[1].split()[0] for line in said if line.startswith("job ") and " 1/1 " in line]
    assert sorted(epochs) == ["distill", "distill", "teacher"]
    return launched.err


@pytest.mark.slow
def test_submitit_on_this_machine_makes_the_bytes_of_one_process(capsys: Capture) -> None:
    require_same(capsys, "--launcher", "local")
    assert sorted(path.name for path in Path("launched/jobs").glob("job-*.log")) == ["job-1.log", "job-2.log"]
    # What is done starts nothing.
    again = invoke(capsys, *GRID, "--run-dir", "launched", "--json", "--launcher", "local")
    assert again.code == 0
    assert "jobs are with local" not in again.err
    assert {step["status"] for each in again.document["grid"] for step in each["steps"]} == {"unchanged"}


@pytest.mark.slow
def test_a_job_that_fails_is_told_as_one_of_jobs_is(capsys: Capture) -> None:
    words = ("run", "tiny.yaml", "--vary", "distill.lr=1e38,0.05", "--run-dir", "grid")
    found = invoke(capsys, *words, "--launcher", "local", "--jobs", "1")
    assert found.code == 1
    assert "1 of 1 jobs ended with an error; job 1 with exit code 1:" in found.err
    assert "not finite" in found.err
    assert Path("grid/distill.lr=0.05/eval.json").exists()


@pytest.mark.slow
def test_slurm_is_asked_for_what_was_given_and_makes_the_same_bytes(cluster: Path, capsys: Capture) -> None:
    given = ("time=1:30:00", "partition=gpu", "gpus=1", "cpus=4", "mem=8G", "account=lab", "constraint=a100")
    words = [word for each in given for word in ("--resource", each)]
    require_same(capsys, "--launcher", "slurm", *words)
    asked = Path("sbatch.sh").read_text()
    assert asked.count("#!/bin/bash") == 2
    for line in ("time=90", "partition=gpu", "gpus-per-node=1", "cpus-per-task=4", "mem=8G", "account=lab"):
        assert asked.count(f"#SBATCH --{line}\n") == 2
    assert "#SBATCH --constraint=a100\n" in asked


# Of 400 epochs, so that a signal meets one.
LONG = ("data.subset=null", "teacher.epochs=400")


def await_training(run: subprocess.Popen[str]) -> None:
    """Read what a grid of :data:`LONG` says until its teacher has learnt for an epoch."""
    begun = time.monotonic()
    assert run.stderr is not None
    for line in run.stderr:
        assert time.monotonic() - begun < 200
        if " teacher 1/400 " in line:
            break


@pytest.mark.slow
def test_an_interrupt_cancels_the_jobs_which_save(cluster: Path) -> None:
    words = ("--launcher", "slurm", "--resource", "time=10")
    command = [sys.executable, "-m", "idsnn_cli", *GRID, *LONG, *words, "--run-dir", "grid"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        await_training(run)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    logs = [Path(f"grid/jobs/job-{number}.log") for number in (1, 2)]
    begun = time.monotonic()
    while not any("its state is saved" in log.read_text() for log in logs if log.exists()):
        assert time.monotonic() - begun < 60
        time.sleep(0.1)
    assert next(Path("grid").rglob("teacher/*.pt"), None) is not None


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--launcher", "local"), ("--jobs", "2")], ids=["launcher", "jobs"])
def test_a_key_that_interrupts_all_processes_is_told_in_a_line(words: tuple[str, ...]) -> None:
    """As a terminal sends it to those of submitit, too."""
    command = [sys.executable, "-m", "idsnn_cli", *GRID, *LONG, *words]
    with subprocess.Popen([*command, "--run-dir", "grid"], stderr=subprocess.PIPE, text=True, process_group=0) as run:
        await_training(run)
        os.killpg(run.pid, signal.SIGINT)
        assert run.stderr is not None
        said = run.stderr.read()
        assert run.wait(60) == 130
    assert "the same command goes on with what is left" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_makes_the_bytes_of_one_process(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves them where other tests run
    require_same(capsys, "--launcher", "ray", "--resource", "cpus=0.5", "--resource", "address=local")


class Scripted(Launched):
    """Jobs that end as they are told to, one at each look."""

    def __init__(self, logs: Sequence[Path], codes: Sequence[int]) -> None:
        self.logs, self.codes, self.looks, self.stopped = logs, codes, 0, False

    def ended(self) -> list[Ended | None]:
        if self.looks < len(self.logs):
            self.logs[self.looks].write_text(f"job says {self.looks}\nhalf")
        self.looks += 1
        shown = [Ended(code, f"it was {code}") for code in self.codes]
        return [each if place < self.looks - 1 else None for place, each in enumerate(shown)]

    def stop(self) -> None:
        self.stopped = True


class Script(Launcher):
    extra, words = "none", "a script"
    keys: Mapping[str, str] = {"codes": "how jobs end"}

    def require(self, resources: Mapping[str, str]) -> None:
        """It is here."""

    def launch(self, commands: Sequence[Sequence[str]], logs: Sequence[Path], resources: Mapping[str, str]) -> Launched:
        assert all(command[-2:] == ["--share", "--no-wait"] for command in commands)
        self.launched = Scripted(logs, [int(code) for code in resources["codes"].split(",")])
        return self.launched


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(jobs, "find", lambda package, name, kind: script)
    monkeypatch.setattr(jobs, "_LOOK_AGAIN", 0)
    return script


def test_what_jobs_say_is_told_as_it_comes_and_the_first_failure_at_the_end(script: Script, capsys: Capture) -> None:
    found = invoke(capsys, *GRID, "--launcher", "slurm", "--resource", "codes=0,7,1", "--jobs", "3")
    assert found.code == 1
    assert [line for line in found.err.splitlines() if re.match(r"job \d:", line)] == [
        *(f"job {number + 1}: job says {number}" for number in range(3)),
        *(f"job {number + 1}: half" for number in range(3)),
    ]
    assert "2 of 3 jobs ended with an error; job 2 with exit code 7:\njob says 1\nhalf\nit was 7" in found.err
    assert script.launched.stopped


def test_a_launcher_has_a_job_for_each_run_where_none_says_how_many(script: Script, capsys: Capture) -> None:
    found = invoke(capsys, *GRID, "--launcher", "slurm", "--resource", "codes=1,1")
    assert "2 of 2 jobs ended with an error" in found.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "tiny.yaml", "--launcher", "local"), "this is one run"),
        ((*GRID, "--launcher", "local", "--share"), "one of them"),
        ((*GRID, "--launcher", "local", "--force"), "do runs again"),
        ((*GRID, "--launcher", "slrum"), "Did you mean 'slurm'?"),
        ((*GRID, "--launcher", "local", "--resource", "gpus=1"), "--resource gpus is not known"),
        ((*GRID, "--launcher", "slurm"), "Add --resource time=MINUTES"),
        ((*GRID, "--launcher", "slurm", "--resource", "time=soon"), "time=soon is no time"),
        ((*GRID, "--launcher", "slurm", "--resource", "time=9", "--resource", "gpus=x"), "gpus=x is not a number"),
        ((*GRID, "--launcher", "slurm", "--resource", "time=9", "--resource", "gpus=1.5"), "not a whole number"),
        ((*GRID, "--launcher", "slurm", "--resource", "time=9", "--resource", "mem=much"), "mem=much is no size"),
        ((*GRID, "--launcher", "slurm", "--resource", "time"), "not of the form KEY=VALUE"),
        ((*GRID, "--launcher", "slurm", "--resource", "time=9", "--resource", "time=8"), "given twice"),
        ((*GRID, "--resource", "time=9"), "Add --launcher"),
        ((*GRID, "--no-wait"), "Add --share"),
    ],
)
def test_what_cannot_be_launched_is_refused(capsys: Capture, words: tuple[str, ...], said: str) -> None:
    found = invoke(capsys, *words)
    assert found.code == 2
    assert said in found.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("launcher", names(LAUNCHERS))
def test_without_its_library_the_message_names_the_command(
    launcher: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    found = invoke(capsys, *GRID, "--launcher", launcher)
    assert found.code == 1
    extra = {"local": "slurm"}.get(launcher, launcher)
    assert f"pip install 'idsnn-cli[{extra}]'" in found.err


def test_without_slurm_it_says_so(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = invoke(capsys, *GRID, "--launcher", "slurm", "--resource", "time=9")
    assert found.code == 1
    assert "needs SLURM's sbatch and srun, which are not here" in found.err


@pytest.mark.parametrize(
    ("time", "found"), [("90", 90), ("1:30:00", 90), ("2-00:00:00", 2880), ("0:00:30", 1), ("1-02:03:04", 1564)]
)
def test_times_are_read_as_sbatch_reads_them(time: str, found: int) -> None:
    assert minutes(time) == found


@pytest.mark.parametrize("time", ["0", "1:30", "-5", "1.5", "0:00:00", "1:99:99", "1:00:60", "3 days"])
def test_other_times_are_refused(time: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        minutes(time)


def test_submitit_knows_every_parameter(tmp_path: Path, cluster: Path) -> None:
    import submitit

    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="slurm", slurm_max_num_timeout=3)
    given = {"time": "10", "partition": "a", "gpus": "0", "cpus": "2", "mem": "3G", "nice": "5"}
    executor.update_parameters(**SLURM.parameters(given))
    assert SLURM.parameters({"time": "10"}) == {"name": "idsnn", "slurm_time": 10}


SLEEPER = """
import signal, sys, time
def leave(number, frame):
    print("saved", file=sys.stderr, flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, leave)
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_a_job_that_must_end_lets_its_command_save_and_goes_on_in_another(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "job.log"
    program = (
        "import pickle, signal, sys\n"
        "work = pickle.load(sys.stdin.buffer)\n"
        "def announced(number, frame):\n"
        "    again = work.checkpoint()\n"
        "    assert again.function.command == work.command\n"
        "    pickle.dumps(again)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGUSR2, announced)\n"
        "work()\n"
    )
    work = Work([sys.executable, "-c", SLEEPER], tmp_path, log)
    job = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, start_new_session=True)
    assert job.stdin is not None
    job.stdin.write(pickle.dumps(work))
    job.stdin.close()
    begun = time.monotonic()
    while not log.exists() or "ready" not in log.read_text():
        assert time.monotonic() - begun < 30
        time.sleep(0.02)
    # SLURM's announcement reaches the command, too, which must not end of it unsaved.
    os.killpg(job.pid, signal.SIGUSR2)
    assert job.wait(30) == 0
    assert log.read_text() == "ready\nsaved\n"


def test_work_gives_the_code_of_its_command_and_adds_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    for code in (0, 3):
        program = f"import os, sys; print(os.getcwd(), file=sys.stderr); sys.exit({code})"
        assert Work([sys.executable, "-c", program], tmp_path, log)() == code
    assert log.read_text() == f"{tmp_path}\n" * 2
