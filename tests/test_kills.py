"""Training that is killed at random moments, by the script that does so hundreds of times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SCRIPTS = TESTS.parent / "scripts"

FORGETFUL = """
from asr.engine.data import CurrentEpoch
def first_order(self):
    resumed = self.epoch == self.resumed_epoch
    return self.loader.epoch(0 if resumed else self.epoch, self.batches_done if resumed else 0)
CurrentEpoch.__iter__ = first_order
"""
"""A resumed epoch has the order of the first."""

OF_THE_WINDOW_BEFORE = """
from asr.engine.module import TrainingModule
from asr.language.lstm_module import LstmModule
LstmModule.on_load_checkpoint = TrainingModule.on_load_checkpoint
"""
"""What the network remembers is lost where it is resumed."""


PROGRAM = """
import sys
sys.path[:0] = {paths}
from killing.__main__ import main
def kill_in_all(n):
    sys.argv = ["kill-training", *{arguments}, f"--kills={{n}}"]
    print("exit code", main())
kill_in_all(4)
{forgetful}
kill_in_all(100)
"""


@pytest.mark.parametrize(
    ("options", "forgetful", "differing"),
    [((), FORGETFUL, "model."), (("--lm",), OF_THE_WINDOW_BEFORE, "package: bias")],
    ids=["acoustic model", "language model"],
)
def test_killed_runs_end_with_the_weights_of_an_unbroken_one_and_forgetful_ones_are_found(
    tmp_path: Path, options: tuple[str, ...], forgetful: str, differing: str
) -> None:
    code = PROGRAM.format(paths=[str(SCRIPTS), str(TESTS)], arguments=[str(tmp_path), *options], forgetful=forgetful)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    unbroken, separator, after = result.stdout.partition("exit code 0\n")
    assert separator, result.stdout + result.stderr
    assert "; 0 in runs that end unequal" in unbroken
    assert after.startswith(f"run {unbroken.count('run ') + 1}: ")  # it goes on where it was
    assert after.endswith("exit code 1\n"), after + result.stderr
    assert differing in after
