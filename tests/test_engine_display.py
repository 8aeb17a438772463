"""What a person watching a run sees on a terminal."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from asr.engine.display import TrainingDisplay
from asr.engine.module import TrainingModule


class Terminal(io.StringIO):
    """A terminal of unknown width."""

    def isatty(self) -> bool:
        return True


class Module(TrainingModule):
    """A network of which nothing is known but its losses."""

    rate = "{:.0f}x"

    def training_line(self) -> str:
        return "loss 1.000"


@pytest.mark.parametrize("done", [0, 40])
def test_the_bar_s_rate_and_time_left_are_those_of_training(done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed before the first step, such as the statistics of the features, takes no time of them."""
    terminal, clock = Terminal(), SimpleNamespace(now=1000.0)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    trainer: Any = SimpleNamespace(global_step=done, is_global_zero=True, current_epoch=0, world_size=1)
    display, module = TrainingDisplay("bar", 1, 100), Module(1)
    display.on_exception(trainer, module, KeyboardInterrupt())
    clock.now += 500
    display.on_train_start(trainer, module)
    for step in range(20):
        clock.now += 0.5
        display.on_train_batch_end(trainer, module, None, None, step)
    line = re.split("\r\x1b\\[K", terminal.getvalue())[-1]
    assert f"loss 1.000: {done + 20}/100 steps" in line
    assert f"2.0 steps/s, 0:{(80 - done) // 2} left" in line
