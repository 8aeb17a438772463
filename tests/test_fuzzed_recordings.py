"""Films, joined files and streams from pipes, whole and damaged: all that was written is read, or what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, tone
from fuzzing.recordings import Fuzzed, read
from fuzzing.second_reader import compare
from fuzzing.watched import Silent, Watched


def test_recordings_of_a_seed(tmp_path: Path) -> None:
    fuzzed = Fuzzed(tmp_path)
    with Watched(fuzzed.load, limit_s=60.0) as watched:
        for index in range(24):
            mutant = fuzzed.mutant(index, 3, tmp_path)
            outcome = watched.outcome(mutant.path)
            assert outcome.accepted, (mutant, outcome)


def test_what_is_missing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tone-2.00s.wav"
    soundfile.write(path, tone(1.5), SAMPLE_RATE)
    with pytest.raises(Silent, match=r"1\.50 s were read, 2\.00s are there"):
        read(path)
    monkeypatch.setattr("fuzzing.second_reader.ffmpeg_reads", lambda path, track: tone(2.0))
    for waveform in (tone(1.5), np.zeros(2 * SAMPLE_RATE, np.float32)):
        with pytest.raises(Silent, match="FFmpeg reads"):
            compare(waveform, path)
    compare(tone(1.95), path)
