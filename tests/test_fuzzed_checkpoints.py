"""Damaged checkpoints end in the weights of an unbroken run, or in a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing.checkpoints import Fuzzed
from fuzzing.watched import Silent

from asr.errors import AsrError


def test_damaged_checkpoints_of_both_kinds(tmp_path: Path) -> None:
    fuzzed = Fuzzed(tmp_path)
    go_on = fuzzed.load()
    outcomes = []
    for index in range(8):
        mutant = fuzzed.mutant(index, 3, tmp_path)
        message = None
        try:
            go_on(mutant.path)
        except AsrError as error:
            message = str(error)
        assert message is None or str(mutant.path) in message, (mutant, message)
        outcomes.append(message is None)
    assert {*outcomes} == {True, False}
    (file,) = fuzzed.expected["lm"].parent.glob("model.safetensors")
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    with pytest.raises(Silent, match="is not what an unbroken run has"):
        fuzzed.load()(fuzzed.mutant(1, 5, tmp_path).path)
