"""``scripts/kill-training FOLDER``: kills a small training again and again, and compares what it ends with."""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from beeps import small_config, write_beeps
from safetensors.torch import load_file

from asr.config import Config, get
from asr.config_mapping import to_yaml
from asr.engine.checkpoint import LAST, PREVIOUS, read_checkpoint
from asr.language.config import LstmTraining, compose_training
from asr.language.lstm_training import WORKING
from killing import training

RESULTS = "kills.jsonl"
SHARES = (0.65, 0.25, 0.25, 0.25)
"""After which share of all steps a run is killed at most, the first time, the second, and so on, from where it then began."""
WORKERS = (0, 2)
LIMIT_S = 300.0
MAIN_ALONE = 0.1  # share of the kills that spare the worker processes, which then have to end by themselves
CUT_SHORT = 0.1  # share of the kills after which the newest checkpoint is damaged, and the one before it has to do
OVERRIDES = (
    "trainer.epochs=3",
    "trainer.batch_s=6",
    "trainer.average_epochs=0.5",
    "trainer.checkpoint_minutes=0.0005",
    "trainer.progress=none",
    "trainer.samples=0",
    "augment.speed=[0.9,1.0,1.1]",
    "model.cnn.norm=batch",
    "model.recurrent.dropout=0.1",
)
LSTM_OVERRIDES = (
    "seed=3",
    "lm.embedding_size=8",
    "lm.hidden_size=8",
    "lm.layers=2",
    "lm.dropout=0.1",
    "lm.samples=6",
    "lm.rows=4",
    "lm.steps=6",
    "lm.epochs=3",
    "lm.held_out=0.05",
    "lm.validations=2",
    "lm.patience=0",
    "lm.checkpoint_minutes=0.0005",
    "lm.accelerator=cpu",
    "lm.precision=float32",
    "lm.threads=1",
    "lm.progress=none",
)
SENTENCES = "the cat meows\nthe dog barks\nthe cow moos at the cat\n" * 60


def small_lstm(corpus: Path, output: Path, n_processes: int) -> LstmTraining:
    """Return the configuration of a language model's training, its text written."""
    corpus.mkdir(exist_ok=True)
    (corpus / "text.txt").write_text(SENTENCES)
    where = (f"text=[{corpus}/text.txt]", f"output={output}", f"lm.devices={n_processes}")
    config = compose_training(["lm=lstm", *LSTM_OVERRIDES, *where])
    assert isinstance(config, LstmTraining)
    return config


def checkpoints(config: training.AnyConfig) -> Path:
    """Return the folder of a run's checkpoints."""
    return Path(config.output if isinstance(config, Config) else f"{config.output}{WORKING}")


def weights(config: training.AnyConfig) -> Path:
    """Return the file of the weights that a run has written."""
    return Path(config.output) / ("package" if isinstance(config, Config) else "") / "model.safetensors"


@dataclass
class Kill:
    """One kill.

    Attributes
    ----------
    workers
        Worker processes of the training.
    steps
        Steps that it had begun since it was started.
    late
        Whether a checkpoint in the middle of an epoch after the first was written before.
    cut_short
        Whether the newest checkpoint was then cut short.
    """

    workers: int
    steps: int
    late: bool
    cut_short: bool


def started(config: training.AnyConfig, log: Path) -> tuple[int, int]:
    """Start a training in a process group of its own; return its process id and the pipe that it reports on.

    One process is a fork of this one, which has imported everything; two are started by a command, as Lightning needs it.
    """
    reader, writer = os.pipe()
    if n_processes(config) > 1:
        settings = log.with_suffix(".yaml")
        settings.write_text(to_yaml(config))
        os.set_inheritable(writer, True)
        command = [sys.executable, training.__file__, str(settings), str(writer)]
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
        with open(log, "a") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, start_new_session=True, pass_fds=[writer], env={**os.environ, **paths}
            )
        os.close(writer)
        return process.pid, reader
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:  # in the child, which never returns
        os.setsid()
        os.close(reader)
        with open(log, "a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        code = training.run(config, writer)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reports(pipe: int) -> Iterator[bytes]:
    """Yield the bytes that a training writes, until it has ended.

    Raises
    ------
    TimeoutError
        It writes nothing for a long time.
    """
    while select.select([pipe], [], [], LIMIT_S)[0]:
        byte = os.read(pipe, 1)
        if not byte:
            return
        yield byte
    raise TimeoutError(f"the training says nothing for {LIMIT_S:g} s")


@contextmanager
def watched(config: training.AnyConfig, log: Path) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Start a training that ends with the block at the latest; gives its process id and what it reports."""
    process, pipe = started(config, log)
    try:
        yield process, reports(pipe)
    finally:
        os.close(pipe)
        if not waited(process):
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)


def waited(process: int) -> bool:
    """Say whether a child has been waited for already."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def kill(config: training.AnyConfig, log: Path, rng: random.Random, most_steps: int, late: bool, wait: bool) -> Kill | None:
    """Start a training, kill it at a random moment, and return what was killed, or nothing where it came to its end first.

    To ``wait`` is to let it live until a late checkpoint was written, which by chance alone is rare on a fast machine.
    """
    target = rng.randint(1, most_steps)
    steps = 0
    with watched(config, log) as (process, reported):
        for byte in reported:
            steps += byte == training.STEP
            late = late or byte == training.SAVED_LATE
            if steps >= target and (late or not wait):
                break
        time.sleep(rng.uniform(0, 0.3))  # into the middle of a step, of a checkpoint, or of the epoch's end
        if os.waitpid(process, os.WNOHANG) != (0, 0):
            return None
        alone = n_processes(config) == 1 and rng.random() < MAIN_ALONE
        (os.kill if alone else os.killpg)(process, signal.SIGKILL)
        os.waitpid(process, 0)
    newest, before = (checkpoints(config) / name for name in (LAST, PREVIOUS))
    cut_short = before.exists() and rng.random() < CUT_SHORT
    if cut_short:
        content = newest.read_bytes()
        newest.unlink()  # the one before may be the same file, where it was killed between two steps of writing
        newest.write_bytes(content[: len(content) // 2])
    return Kill(config.trainer.workers if isinstance(config, Config) else 0, steps, late, cut_short)


def n_processes(config: training.AnyConfig) -> int:
    """Return how many processes train together."""
    n: int = get(config, "trainer.devices" if isinstance(config, Config) else "lm.devices")
    return n


def finish(config: training.AnyConfig, log: Path) -> tuple[int, int]:
    """Let a training go on to its end, and return its exit code and the steps that it has begun."""
    with watched(config, log) as (process, reported):
        steps = sum(byte == training.STEP for byte in reported)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), steps


def differences(ours: training.AnyConfig, theirs: training.AnyConfig) -> list[str]:
    """Name what differs between the ends of two runs: steps, weights, and the package's weights."""
    packages = [load_file(weights(config)) for config in (ours, theirs)]
    found = [f"package: {name}" for name in packages[0] if not packages[0][name].equal(packages[1][name])]
    if isinstance(ours, LstmTraining):  # nothing else is kept of one that is complete
        return found
    last, other = (read_checkpoint(checkpoints(config) / LAST) for config in (ours, theirs))
    if last["global_step"] != other["global_step"]:
        found.append(f"steps: {last['global_step']} of {other['global_step']}")
    return found + [name for name, tensor in other["state_dict"].items() if not tensor.equal(last["state_dict"][name])]


def kill_run(
    config: training.AnyConfig, unbroken: training.AnyConfig, n_steps: int, rng: random.Random, wait: bool
) -> tuple[list[Kill], list[str]]:
    """Kill one run several times, let it end, and return the kills and what then differs from the unbroken run.

    Its folder and log are kept where there is a difference.
    """
    log = Path(f"{config.output}.log")
    log.unlink(missing_ok=True)
    for folder in (Path(config.output), checkpoints(config)):
        shutil.rmtree(folder, ignore_errors=True)
    kills: list[Kill] = []
    for share in SHARES:
        attempt = config
        if isinstance(config, Config):
            attempt = replace(config, trainer=replace(config.trainer, workers=rng.choice(WORKERS)))
        killed = kill(attempt, log, rng, round(share * n_steps), bool(kills) and kills[-1].late, wait)
        if killed is None:
            break
        kills.append(killed)
    code, _ = finish(config, log)
    found = differences(config, unbroken) if code == 0 else [f"exit code {code}, see {log}"]
    if not found:
        shutil.rmtree(config.output)
        log.unlink()
    return kills, found


def count(results: Path, workers: int | None = None) -> tuple[int, int, int]:
    """Return the kills so far, how many of them were late, and how many belong to runs that ended with other weights."""
    n_kills = n_late = n_wrong = 0
    for line in results.read_text().splitlines() if results.exists() else ():
        row = json.loads(line)
        kills = [one for one in row["kills"] if workers in (None, one["workers"])]
        n_kills += len(kills)
        n_late += sum(one["late"] for one in kills)
        n_wrong += len(kills) if row["differences"] else 0
    return n_kills, n_late, n_wrong


def main() -> int:
    """Read the arguments; 1 where a run ended with other weights than the unbroken one."""
    parser = argparse.ArgumentParser(prog="scripts/kill-training", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the runs; called again, the script goes on there")
    parser.add_argument("--kills", type=int, default=300, metavar="N", help="how many, half of them late (default: 300)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="processes that train together (default: 1)")
    parser.add_argument("--lm", action="store_true", help="trainings of an LSTM language model (default: of an acoustic model)")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results, unbroken, corpus = folder / RESULTS, folder / "unbroken", folder / "corpus"
    config: training.AnyConfig
    if args.lm:
        config = small_lstm(corpus, unbroken, args.devices)
    else:
        if not (corpus / "dev.jsonl").exists():
            write_beeps(corpus)
        config = small_config(corpus, unbroken, *OVERRIDES, f"trainer.devices={args.devices}", "trainer.workers=0")
    steps = folder / "steps"
    if not results.exists():
        shutil.rmtree(unbroken, ignore_errors=True)
        code, n_steps = finish(config, folder / "unbroken.log")
        if code:
            print(f"the unbroken run ends with exit code {code}, see {folder / 'unbroken.log'}")
            return 1
        steps.write_text(str(n_steps))
        results.touch()
    number = len(results.read_text().splitlines())
    while (counts := count(results))[0] < args.kills or 2 * counts[1] < args.kills:
        attempt = replace(config, output=str(folder / f"killed-{number}"))
        kills, found = kill_run(attempt, config, int(steps.read_text()), random.Random(number), wait=number % 2 == 1)
        with open(results, "a") as file:
            file.write(json.dumps({"run": number, "kills": [asdict(one) for one in kills], "differences": found}) + "\n")
        number += 1
        print(f"run {number}: {len(kills)} kills; {', '.join(found) or 'equal'}", flush=True)
        if found:
            break
    for workers in WORKERS:
        print("with {} workers: {} kills, {} late, {} unequal".format(workers, *count(results, workers)))
    n_kills, n_late, n_wrong = count(results)
    print(f"{n_kills} kills, {n_late} after a checkpoint in the middle of a later epoch; {n_wrong} in runs that end unequal")
    return 1 if n_wrong else 0
