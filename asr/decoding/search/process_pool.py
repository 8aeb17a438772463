"""Searching in several processes at once."""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np

from asr.decoding.search.beam_search import BeamSearch, SearchHypothesis, SearchOptions
from asr.errors import Failure

# Pieces of work for each process in a batch: more even out their lengths, fewer leave more to search together.
_PIECES = 2

_executors: weakref.WeakKeyDictionary[BeamSearch, tuple[int, ProcessPoolExecutor]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_search: BeamSearch


def run(
    search: BeamSearch, utterances: Sequence[np.ndarray], options: SearchOptions, jobs: int
) -> list[list[SearchHypothesis]]:
    """Search utterances in this process (``jobs`` = 1) or in others, which live as long as the search does.

    Raises
    ------
    Failure
        One of the processes died.
    """
    if jobs == 1 or len(utterances) < 2:
        return search.run(utterances, options)
    order = sorted(range(len(utterances)), key=lambda index: -len(utterances[index]))
    n_pieces = min(len(order), _PIECES * jobs)
    pieces = [order[first::n_pieces] for first in range(n_pieces)]
    executor = _executor(search, jobs)
    try:
        futures = [executor.submit(_run, [utterances[index] for index in piece], options) for piece in pieces]
        found: dict[int, list[SearchHypothesis]] = {}
        for piece, future in zip(pieces, futures, strict=True):
            found.update(zip(piece, future.result(), strict=True))
    except BrokenProcessPool:
        _forget(search)
        raise Failure(
            f"one of the {jobs} processes that decode ended before its time, perhaps for want of memory; decode with fewer "
            "(decoding.jobs)"
        ) from None
    except BaseException:
        _forget(search)
        raise
    return [found[index] for index in range(len(utterances))]


def _executor(search: BeamSearch, jobs: int) -> ProcessPoolExecutor:
    with _lock:
        there = _executors.get(search)
        if there is not None and there[0] == jobs:
            return there[1]
        if there is not None:
            there[1].shutdown(wait=False, cancel_futures=True)
        sent: Any = _Sent(search)
        # Forking would copy the locks of threads that do not exist in the copy.
        executor = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (sent,))
        _executors[search] = (jobs, executor)
        weakref.finalize(search, executor.shutdown, wait=False, cancel_futures=True)
        return executor


class _Sent:
    """What becomes the search in another process and does not keep it alive in this one, as an executor's arguments would."""

    def __init__(self, search: BeamSearch) -> None:
        self._search = weakref.ref(search)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._search(),)


def _received(search: BeamSearch) -> BeamSearch:
    return search


def _forget(search: BeamSearch) -> None:
    with _lock:
        there = _executors.pop(search, None)
    if there is not None:
        there[1].shutdown(wait=False, cancel_futures=True)


def _begin(search: BeamSearch) -> None:
    """Make a process ready: one thread, and an interrupt is the parent's affair."""
    global _search
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    _search = search


def _run(utterances: list[np.ndarray], options: SearchOptions) -> list[list[SearchHypothesis]]:
    return _search.run(utterances, options)
