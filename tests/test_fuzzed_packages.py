"""Packages as a stranger may have made them end in a transcript or a clear error, in a watched process."""

from __future__ import annotations

from pathlib import Path

from fuzzing.packages import GROUPS, MUTATIONS, Fuzzed
from fuzzing.watched import Watched


def test_damaged_and_forged_packages(tmp_path: Path) -> None:
    fuzzed = Fuzzed(tmp_path)
    tried: set[str] = set()
    with Watched(fuzzed.load, limit_s=60.0) as watched:
        for index in range(5 * len(GROUPS)):
            mutant = fuzzed.mutant(index, 6, tmp_path)
            outcome = watched.outcome(mutant.path)
            assert outcome.accepted, (mutant, outcome)
            assert mutant.mutation != "none" or outcome.kind == "done", outcome
            tried.add(mutant.mutation)
    assert len(tried) > len(MUTATIONS) // 2
