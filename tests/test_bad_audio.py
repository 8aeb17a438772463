"""Bad recordings, through the command line: each is named, and the others are not lost."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from bad_input import SAMPLE_RATE, Run, assert_refused, content, write_wav


def truncated(path: Path) -> None:
    write_wav(path, 3.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def not_a_number(path: Path) -> None:
    waveform = np.zeros(800, np.float32)
    waveform[7] = np.nan
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="FLOAT")


def ten_hours_promised_by_wav(path: Path) -> None:
    write_wav(path)
    header = bytearray(path.read_bytes())
    header[40:44] = (36000 * SAMPLE_RATE * 2).to_bytes(4, "little")
    path.write_bytes(header)


def years_promised_by_flac(path: Path) -> None:
    write_wav(path)
    header = bytearray(path.read_bytes())
    header[18:26] = (int.from_bytes(header[18:26], "big") | (1 << 36) - 1).to_bytes(8, "big")
    path.write_bytes(header)


BAD_AUDIO: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("bad.wav", lambda path: None, "no such audio file"),
    "empty": ("bad.wav", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "truncated wav": ("bad.wav", truncated, "is truncated"),
    "truncated flac": ("bad.flac", truncated, "is truncated"),
    "truncated mp3": ("bad.mp3", truncated, "is truncated"),
    "without samples": ("bad.wav", lambda path: write_wav(path, 0.0), "holds no audio samples"),
    "ten hours, wav": ("bad.wav", ten_hours_promised_by_wav, "promises 576000000 bytes of audio, 16000 are there"),
    "years, flac": ("bad.flac", years_promised_by_flac, "is truncated or corrupt"),
    "not a number": ("bad.wav", not_a_number, "1 of 800 samples are NaN or infinite"),
    "text": ("bad.wav", lambda path: path.write_text("dear diary\n" * 99), "no audio file"),
    "folder": ("bad.wav", lambda path: path.mkdir(), "is a folder, expected an audio file"),
    "pipe": ("bad.wav", lambda path: os.mkfifo(path), "is a pipe or a device, expected an audio file"),
    "name too long": (f"{'bad' * 90}.wav", lambda path: None, "File name too long"),
}


@pytest.mark.parametrize("kind", [kind for kind in BAD_AUDIO if kind != "folder"])  # what is in a folder is transcribed
def test_bad_audio_is_named_and_the_others_are_transcribed(
    kind: str, pristine: Path, good: Path, tmp_path: Path, run: Run
) -> None:
    name, write, message = BAD_AUDIO[kind]
    write(tmp_path / name)
    outcome = run("transcribe", tmp_path / name, good, "--model", pristine)
    assert_refused(outcome, f"asr transcribe: {tmp_path / name}: ", message, "1 of 2 files could not be transcribed", code=3)
    assert outcome.out.startswith(f"{good}: ")
    assert run("transcribe", tmp_path / name, good, "--model", pristine, "-o", tmp_path / "out").code == 3
    assert list(content(tmp_path / "out")) == ["good.txt"]
    assert run("transcribe", tmp_path / name, "--model", pristine).code == 2  # nothing is done


@pytest.mark.parametrize("kind", BAD_AUDIO)
def test_bad_audio_is_refused_by_prepare_and_nothing_is_written(
    kind: str, manifests: Path, table: Path, tmp_path: Path, run: Run
) -> None:
    name, write, _ = BAD_AUDIO[kind]
    write(tmp_path / name)
    before = content(manifests)
    with table.open("a") as file:
        file.write(f"{name},a\n")
    outcome = run("prepare", "table", table, "--name", "corpus", "--manifests", manifests, "--decode")
    assert_refused(outcome, "1 of 5 rows cannot be used", f"{table}, row 6: bad", "nothing written", "--skip-invalid")
    journal = {"corpus/all.partial.jsonl"}  # of the files that were found to be good, so that they are not read again
    assert {name: data for name, data in content(manifests).items() if name not in journal} == before
    outcome = run("prepare", "table", table, "--name", "corpus", "--manifests", manifests, "--decode", "--skip-invalid")
    assert outcome.code == 3
    assert "4 utterances" in outcome.out
    rejected = json.loads((manifests / "corpus" / "all.rejected.jsonl").read_text())
    assert rejected["reason"] == ("missing file" if kind in ("missing", "name too long") else "unreadable audio")
    assert not (manifests / "corpus" / "all.partial.jsonl").exists()


@pytest.mark.parametrize("n_samples", [1, 2 * SAMPLE_RATE], ids=["one sample", "silence"])
def test_one_sample_and_silence_are_no_mistake(n_samples: int, pristine: Path, tmp_path: Path, run: Run) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(n_samples), SAMPLE_RATE)
    outcome = run("transcribe", tmp_path / "quiet.wav", "--model", pristine, "--format", "json")
    assert (outcome.code, outcome.err) == (
        0,
        f"asr transcribe: {tmp_path / 'quiet.wav'}: holds nothing but digital silence, or what is too faint for 16 bits\n",
    )
    mapping = json.loads(outcome.out)
    assert mapping["duration_s"] == round(n_samples / SAMPLE_RATE, 3)
    assert mapping["notices"] == ["holds nothing but digital silence, or what is too faint for 16 bits"]


def test_long_audio_is_read_by_parts(pristine: Path, tmp_path: Path, run: Run) -> None:
    """Half an hour takes 58 MB as float32; what is held of it at any time must be far less."""
    path = write_wav(tmp_path / "long.wav", 1800)
    tracemalloc.start()
    outcome = run("transcribe", path, "--model", pristine, "--format", "json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.code == 0
    assert json.loads(outcome.out)["duration_s"] == 1800
    assert peak < 25e6
