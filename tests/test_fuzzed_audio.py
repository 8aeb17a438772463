"""Damaged audio of every format ends in a transcript or a clear error; what once did not, and the watch over it."""

from __future__ import annotations

import errno
import io
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, spoken, tone
from fuzzing.audio import FORMATS, MUTATIONS, Fuzzed, damaged, original
from fuzzing.watched import Handle, Silent, Watched

import asr
from asr.audio import load_audio, probe_audio, stream_audio
from asr.errors import AudioError, TextError
from asr.waveform import check_waveform

READERS: tuple[Callable[[Path | io.BytesIO], object], ...] = (
    lambda source: load_audio(source, SAMPLE_RATE),
    lambda source: list(stream_audio(source, SAMPLE_RATE)),
    probe_audio,
)


def test_damaged_files_of_every_format(tmp_path: Path) -> None:
    fuzzed = Fuzzed(tmp_path)
    with Watched(fuzzed.load, limit_s=60.0) as watched:
        for index in range(len(FORMATS)):
            mutant = fuzzed.mutant(index, 2, tmp_path)
            outcome = watched.outcome(mutant.path)
            assert outcome.accepted, (mutant, outcome)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_damaged_can_be_read_before(format: str, tmp_path: Path) -> None:
    for second in (False, True):
        path = tmp_path / "whole"
        path.write_bytes(original(format, second))
        waveform = load_audio(path, SAMPLE_RATE)
        assert len(waveform) > 0.3 * SAMPLE_RATE
        assert np.abs(waveform).max() > 0.05


def test_a_seed_makes_the_same_files() -> None:
    indices = range(0, 150 * len(FORMATS), len(FORMATS))
    first = [damaged(index, seed=5) for index in indices]
    assert first == [damaged(index, seed=5) for index in indices]
    assert {made.mutation for made in first} == set(MUTATIONS)
    assert {made.format for made in first} == {FORMATS[0]}
    assert first != [damaged(index, seed=6) for index in indices]


def wav_of_codec(tag: int) -> bytes:
    """Fifty samples that are said to be coded in some way."""
    data = bytes(100)
    layout = (b"fmt ", 16, tag, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, b"data", len(data))
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", *layout) + data


@pytest.mark.parametrize("read", READERS)
def test_codec_that_nobody_knows(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(wav_of_codec(1))
    read(path)
    path.write_bytes(wav_of_codec(0xABCD))
    with pytest.raises(AudioError, match=r"odd\.wav: its audio is coded in a way that is not known"):
        read(path)


class SmallDisk(io.BytesIO):
    """A file that refuses to seek beyond the largest size of a file, as file systems do."""

    name = "disk.caf"

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if position > 2**44:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().seek(position, whence)


@pytest.mark.parametrize("read", READERS)
def test_chunk_longer_than_any_file(read: Callable[[io.BytesIO], object], capfd: pytest.CaptureFixture[str]) -> None:
    description = struct.pack(">d4sIIIII", SAMPLE_RATE, b"lpcm", 0, 2, 1, 1, 16)
    chunks = struct.pack(">4sq", b"desc", len(description)) + description + struct.pack(">4sq", b"free", 2**62)
    with pytest.raises(AudioError, match=r"disk\.caf: is truncated, corrupt or no audio file"):
        read(SmallDisk(b"caff" + struct.pack(">HH", 1, 0) + chunks))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("read", READERS)
def test_files_named_raw_are_what_they_hold(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "call.raw"
    soundfile.write(path, tone(), SAMPLE_RATE, format="WAV")
    read(path)
    path.write_bytes((32767 * tone()).astype("<i2").tobytes())
    with pytest.raises(AudioError, match=r"call\.raw: is truncated, corrupt or no audio file \(Format not recognised; PyAV"):
        read(path)


@pytest.mark.parametrize("largest", [8.1, 32768.0, 1e38])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_samples_that_were_never_scaled(largest: float, n_channels: int, package: Path, tmp_path: Path) -> None:
    path, good = tmp_path / "loud.wav", tmp_path / "good.wav"
    speech = spoken(2.0)
    soundfile.write(good, speech, SAMPLE_RATE)
    loud = np.stack([speech] * n_channels, axis=1)
    loud[SAMPLE_RATE] = -largest
    soundfile.write(path, loud, SAMPLE_RATE, subtype="FLOAT")
    results = list(asr.load_model(package).transcribe_many([path, good]))
    assert isinstance(results[0], AudioError)
    assert f"{path}: has samples as large as " in str(results[0])
    assert not isinstance(results[1], AudioError)  # nothing of the others is lost
    with pytest.raises(AudioError, match="mine: has samples as large as "):
        check_waveform(loud, "mine")


def misbehaving() -> Handle:
    """Return what does to a file as its name says."""

    def handle(path: Path) -> int:
        match path.name:
            case "crash":
                os.abort()
            case "hang":
                time.sleep(60)
            case "memory":
                return len(b"1" * (500 << 20))
            case "addresses":
                bytearray(1 << 40)
            case "exception":
                raise KeyError("what")
            case "silent":
                raise Silent("half of it is lost")
            case "unnamed":
                raise TextError("somewhere something is wrong")
            case "error":
                raise AudioError(f"{path}: is truncated")
        return 0

    return handle


def test_the_watch_sees_what_happens_and_goes_on() -> None:
    expected = {
        "fine": ("done", ""),
        "error": ("error", "error: is truncated"),
        "silent": ("silent", "half of it"),
        "unnamed": ("unnamed", "somewhere"),
        "exception": ("exception", "KeyError: 'what'"),
        "addresses": ("memory", "MemoryError"),
        "memory": ("memory", "GiB"),
        "crash": ("crash", "exit code -6"),
        "hang": ("hang", "no answer within 3 s"),
        "fine again": ("done", ""),
    }
    with Watched(misbehaving, limit_s=3.0, limit_bytes=500 << 20) as watched:
        found = {name: watched.outcome(Path(name)) for name in expected}
    for name, (kind, detail) in expected.items():
        assert found[name].kind == kind, name
        assert detail in found[name].detail
        assert found[name].accepted == (kind in ("done", "error"))
    assert found["hang"].seconds >= 3
    assert found["memory"].peak_bytes > 500 << 20
