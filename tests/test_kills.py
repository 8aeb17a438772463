"""Training that is killed at random moments, by the script that does so hundreds of times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "kill-training"

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


def killed(folder: Path, n_kills: int, *options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{before}\nimport runpy, sys\nsys.argv = {[str(SCRIPT), str(folder), f'--kills={n_kills}', *options]}\n"
    code += f"sys.path.insert(0, {str(SCRIPT.parent)!r})\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.parametrize(
    ("options", "forgetful", "differing"),
    [((), FORGETFUL, "model."), (("--lm",), OF_THE_WINDOW_BEFORE, "package: bias")],
    ids=["acoustic model", "language model"],
)
def test_killed_runs_end_with_the_weights_of_an_unbroken_one_and_forgetful_ones_are_found(
    tmp_path: Path, options: tuple[str, ...], forgetful: str, differing: str
) -> None:
    result = killed(tmp_path, 6, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "; 0 in runs that end unequal" in result.stdout
    n_runs = len((tmp_path / "kills.jsonl").read_text().splitlines())
    n_kills = int(result.stdout.splitlines()[-1].split()[0])
    for more in (5, 10, 15, 20):  # a run that goes on from an epoch's end has nothing to forget
        result = killed(tmp_path, n_kills + more, *options, before=forgetful)
        if more == 5:  # it goes on where it was
            assert result.stdout.startswith(f"run {n_runs + 1}: ")
        if result.returncode:
            break
    assert result.returncode == 1, result.stdout + result.stderr
    assert differing in result.stdout
