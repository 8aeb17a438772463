"""Searching in several processes; nothing here imports torch, so that they start quickly."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from asr.decoding.search import process_pool
from asr.decoding.search.beam_search import BeamSearch, SearchHypothesis, SearchOptions
from asr.errors import Failure

OPTIONS = SearchOptions(beam=1, threshold=1.0)


class Mortal(BeamSearch):
    """Scores an utterance by its length; ends its process as long as a file is there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def run(self, utterances: Sequence[np.ndarray], options: SearchOptions) -> list[list[SearchHypothesis]]:
        if self.file.exists():
            os._exit(1)
        return [[SearchHypothesis((), (), (), 0.0, 0.0, float(len(utterance)))] for utterance in utterances]


def scores(search: BeamSearch, *lengths: int) -> list[float]:
    utterances = [np.zeros((n, 4), dtype=np.float32) for n in lengths]
    return [hypotheses[0].score for hypotheses in process_pool.run(search, utterances, OPTIONS, jobs=2)]


@pytest.mark.slow
def test_a_process_that_dies_is_no_end_of_waiting(tmp_path: Path) -> None:
    file = tmp_path / "poison"
    file.touch()
    search = Mortal(file)
    with pytest.raises(Failure, match=r"decoding\.jobs"):
        scores(search, 3, 1, 2, 5)
    file.unlink()
    assert scores(search, 3, 1, 2, 5) == [3.0, 1.0, 2.0, 5.0]


def test_processes_end_with_their_search(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    search = Mortal(tmp_path / "absent")
    assert scores(search, 3, 1) == [3.0, 1.0]
    processes = set(multiprocessing.active_children()) - before
    assert processes
    del search
    gc.collect()
    # Not join: the executor's own thread joins them too, and the one that comes second sees no exit code for a moment.
    deadline = time.monotonic() + 60.0
    while any(process.exitcode is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [process.exitcode for process in processes] == [0] * len(processes)
