"""Recordings behind recordings, and headers that say less or more than there is: all is read, or what is not is told of."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import SAMPLE_RATE, spoken
from test_recordings import LONG, OTHER, RECORDINGS, VOICE, place, read, written

import asr
from asr.audio import load_audio, probe_audio
from asr.errors import AudioError

PIPED_MP3 = (RECORDINGS / "pipe.mp3").read_bytes()


def muxed(format: str, codec: str, waveform: np.ndarray = VOICE) -> bytes:
    """Return a file that FFmpeg writes."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=format) as output:
        track: Any = output.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        for start in range(0, len(waveform), 512):
            part = (32767 * waveform[None, start : start + 512]).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), start
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return stream.getvalue()


def ogg_pages(content: bytes) -> list[bytearray]:
    """Take an Ogg file apart."""
    pages, place = [], 0
    while place < len(content):
        size = 27 + content[place + 26] + sum(content[place + 27 : place + 27 + content[place + 26]])
        pages.append(bytearray(content[place : place + size]))
        place += size
    return pages


def ogg_file(pages: list[bytearray]) -> bytes:
    """Join pages, each with its checksum."""
    for page in pages:
        page[22:26] = bytes(4)
        value = 0
        for byte in page:
            value ^= byte << 24
            for _ in range(8):
                value = (value << 1 ^ (0x104C11DB7 if value & 1 << 31 else 0)) & 0xFFFFFFFF
        page[22:26] = value.to_bytes(4, "little")
    return b"".join(pages)


def notices_of(content: bytes) -> list[str]:
    """Return what is told where a recording is read, which is the same where it is probed."""
    told: list[str] = []
    probed: list[str] = []
    load_audio(content, SAMPLE_RATE, tell=told.append)
    probe_audio(content, tell=probed.append)
    assert told == probed
    return told


def said_of(content: bytes) -> str:
    """Return all that is said of a recording, which may be an error."""
    try:
        return "\n".join(notices_of(content))
    except AudioError as error:
        return str(error)


# Ogg


@pytest.mark.parametrize(("subtype", "rate"), [("OPUS", 48000), ("VORBIS", SAMPLE_RATE)])
def test_a_gap_between_granule_positions_is_silence(subtype: str, rate: int) -> None:
    content = written(LONG, "OGG", subtype)
    pages = ogg_pages(content)
    late = len(pages) // 2 + 1
    assert late < len(pages)
    for page in pages[late:]:
        page[6:14] = (int.from_bytes(page[6:14], "little") + 2 * rate).to_bytes(8, "little")
    whole, waveform = load_audio(content, SAMPLE_RATE), read(ogg_file(pages))
    assert len(waveform) == pytest.approx(len(whole) + 2 * SAMPLE_RATE, abs=400)
    start_s, likeness = place(waveform, whole[-SAMPLE_RATE // 2 :])
    assert start_s == pytest.approx(len(waveform) / SAMPLE_RATE - 0.5, abs=0.02)
    assert likeness > 0.95
    assert np.square(waveform).sum() == pytest.approx(np.square(whole).sum(), rel=0.05)  # nothing comes twice


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
@pytest.mark.parametrize("behind", [5, 40])
def test_ogg_cut_within_a_page_is_truncated(subtype: str, behind: int) -> None:
    content = written(LONG, "OGG", subtype)
    last = len(content) - len(ogg_pages(content)[-1])
    cut = content[: last + behind]
    for take in (load_audio, lambda content, _: probe_audio(content)):
        with pytest.raises(AudioError, match=r"is truncated: \d+ bytes are missing of its last page"):
            take(cut, SAMPLE_RATE)
    losses: list[str] = []
    assert len(load_audio(cut, SAMPLE_RATE, lose=losses.append)) > SAMPLE_RATE
    assert len(losses) == 1


def test_ogg_that_ends_without_saying_so_is_told_of() -> None:
    pages = ogg_pages(written(LONG, "OGG", "OPUS"))
    assert notices_of(ogg_file(pages)) == []
    assert notices_of(ogg_file(pages[:-1])) == ["its last page does not say that it is the last; the end may be missing"]


# Truncated


@pytest.mark.parametrize("format", ["CAF", "AVR", "MAT5", "MPC2K"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_size_that_a_header_states_is_compared(format: str, n_channels: int) -> None:
    if format == "AVR" and n_channels == 2:
        pytest.skip("libsndfile writes a number that means something else")
    content = written(np.stack([VOICE] * n_channels, axis=1), format, "PCM_16")
    assert len(load_audio(content, SAMPLE_RATE)) == len(VOICE)
    cut = content[: len(content) * 2 // 3]
    with pytest.raises(AudioError, match="audio bytes: is truncated"):
        load_audio(cut, SAMPLE_RATE)
    losses: list[str] = []
    assert len(load_audio(cut, SAMPLE_RATE, lose=losses.append)) == pytest.approx(SAMPLE_RATE, rel=0.06)
    assert "truncated" in losses[0]


# Wrong counts


def xing(n_frames: float, n_bytes: float, flags: int = 15) -> bytes:
    """Return an mp3 whose counts are so many times the true ones."""
    content = bytearray(written(LONG, "MP3"))
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert at > 0
    for where, times in ((at + 8, n_frames), (at + 12, n_bytes)):
        true = int.from_bytes(content[where : where + 4], "big")
        content[where : where + 4] = round(true * times).to_bytes(4, "big")
    content[at + 7] = flags
    if flags & 3 == 1:  # no number of bytes: what follows moves up
        content[at + 12 : at + 112] = content[at + 16 : at + 116]
    return bytes(content)


@pytest.mark.parametrize(
    ("n_frames", "n_bytes", "flags"),
    [
        (0, 1, 15),
        (0.5, 1, 15),
        (0.5, 1, 1),
        (1, 0.5, 15),
        (0.5, 0.51, 15),
        (2, 1, 15),
        *((0.5, 0.51 + n / 40000, 15) for n in range(4)),
    ],
)
def test_an_mp3_whose_header_states_what_is_not_so(n_frames: float, n_bytes: float, flags: int) -> None:
    waveform = read(xing(n_frames, n_bytes, flags))
    assert len(waveform) == pytest.approx(len(LONG), abs=0.2 * SAMPLE_RATE)
    assert place(waveform, LONG)[1] > 0.95


def test_an_mp3_that_is_cut_off_is_truncated_whatever_its_header() -> None:
    content = xing(1, 1)
    with pytest.raises(AudioError, match="is truncated"):
        load_audio(content[: len(content) // 2], SAMPLE_RATE)


# Headers that are a little wrong


def test_a_wav_whose_size_counts_its_header() -> None:
    content = bytearray(written(VOICE, "WAV"))
    content[40:44] = len(content).to_bytes(4, "little")
    np.testing.assert_allclose(read(bytes(content)), VOICE, atol=1e-4)


@pytest.mark.parametrize("format", ["WAV", "AIFF", "OGG"])
def test_a_tag_before_a_recording(format: str) -> None:
    content = written(VOICE, format)
    tag = b"ID3\3\0\0" + bytes((0, 0, 40, 0)) + bytes(40 * 128)
    np.testing.assert_array_equal(read(tag + content), read(content))


def test_a_tag_that_says_it_has_no_bytes() -> None:
    content = written(VOICE, "WAV")
    tag = b"APETAGEX" + struct.pack("<IIII8x", 2000, 0, 0, 0)
    np.testing.assert_array_equal(read(tag + content), read(content))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF])
def test_sizes_of_au_that_stand_for_unknown(size: int) -> None:
    content = bytearray(written(VOICE, "AU"))
    content[8:12] = size.to_bytes(4, "big")
    np.testing.assert_allclose(read(bytes(content)), VOICE, atol=1e-4)


# What follows


_WRITTEN = ("WAV", "RF64", "AIFF", "AU", "CAF", "W64", "FLAC", "OGG", "MP3")
KINDS: dict[str, Callable[[], bytes]] = {
    **{format.lower(): partial(written, VOICE, format) for format in _WRITTEN},
    "ulaw au": lambda: written(VOICE, "AU", "ULAW"),
    "voc": lambda: written(VOICE, "VOC", "PCM_16") + b"\0",
    "mp3 without a length": lambda: PIPED_MP3,
    "m4a": lambda: muxed("ipod", "alac"),
    "tta": lambda: muxed("tta", "tta"),
    "wavpack": lambda: muxed("wv", "wavpack"),
    "wma": lambda: muxed("asf", "pcm_s16le"),
    "flv": lambda: muxed("flv", "aac"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["same", "wav", "flac", "mp3 without a length"])
def test_joined_recordings_of_every_kind_are_read(kind: str, other: str) -> None:
    first = KINDS[kind]()
    second = first if other == "same" else KINDS[other]()
    alone = [load_audio(content, SAMPLE_RATE) for content in (first, second)]
    waveform = read(first + second)
    assert len(waveform) == pytest.approx(sum(map(len, alone)), abs=0.02 * SAMPLE_RATE)
    assert place(waveform[len(alone[0]) :], VOICE)[1] > 0.9
    assert notices_of(first + second) == []


@pytest.mark.parametrize("kind", ["wav", "aiff", "mp3 without a length", "mp3", "m4a"])
def test_zeros_between_recordings_are_passed_over(kind: str) -> None:
    content = KINDS[kind]()
    alone = load_audio(content, SAMPLE_RATE)
    assert len(read(content + bytes(4096) + content)) == pytest.approx(2 * len(alone), abs=10)


def test_zeros_in_an_mp3_without_a_length_are_told_of_or_damage() -> None:
    """They may be padding between two files or stand for what a disk has lost."""
    (notice,) = notices_of(PIPED_MP3 + bytes(4096) + PIPED_MP3)
    assert notice.startswith("4096 zeros from byte ")
    (cut,) = notices_of(PIPED_MP3[:-20])
    assert cut == "its last frame is cut off; the end may be missing"
    said = [said_of(PIPED_MP3[:start] + bytes(500) + PIPED_MP3) for start in range(1000, 1100)]
    assert all("corrupt" in what or " zeros from byte " in what for what in said)
    assert sum("corrupt" in what for what in said) > 70


def test_both_data_chunks_of_a_wav_are_read() -> None:
    first, second = written(VOICE, "WAV"), written(OTHER, "WAV")
    comment = b"LIST" + struct.pack("<I", 10) + bytes(10)
    content = bytearray(first + comment + second[36:] + comment)
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    np.testing.assert_allclose(read(bytes(content)), np.concatenate([VOICE, OTHER]), atol=1e-4)


@pytest.mark.parametrize("kind", ["wav", "aiff", "au", "flac", "ogg", "mp3", "m4a"])
def test_what_is_not_read_behind_the_sound_is_told_of(kind: str) -> None:
    content, junk = KINDS[kind](), np.random.default_rng(0).bytes(20_000)
    (notice,) = notices_of(content + junk)
    n_bytes = int(notice.split()[0])
    assert n_bytes == 20_000 or (kind == "flac" and 10_000 < n_bytes < 20_000)
    assert "behind its sound" in notice
    assert notices_of(content + junk[:500]) == notices_of(content + bytes(20_000)) == []


def test_a_recorder_that_died_before_it_knew_its_size(package: Path, tmp_path: Path) -> None:
    content = bytearray(written(LONG, "WAV"))
    content[4:8], content[40:44] = (36 + 128_000).to_bytes(4, "little"), (128_000).to_bytes(4, "little")
    notice = "64000 bytes behind its sound, from byte 128044 on, are not read; "
    notice += "if they are sound (2.00 s), the size in its header is wrong"
    assert notices_of(bytes(content)) == [notice]
    (tmp_path / "a.wav").write_bytes(content)
    assert notice in asr.load_model(package).transcribe(tmp_path / "a.wav").notices


# Damage


@pytest.mark.parametrize("format", ["FLAC", "MP3"])
def test_the_place_of_damage_is_named(format: str) -> None:
    content = written(np.concatenate([0.5 * spoken(1.5, seed) for seed in range(8)]), format)
    middle = len(content) * 2 // 3
    damaged = content[:middle] + bytes(3000) + content[middle + 3000 :]
    with pytest.raises(AudioError, match=r"corrupt after [678]\.\d\d s"):
        load_audio(damaged, SAMPLE_RATE)


def test_an_aiff_whose_first_size_is_too_small() -> None:
    content = bytearray(written(VOICE, "AIFF"))
    content[4:8] = (1000).to_bytes(4, "big")
    np.testing.assert_allclose(read(bytes(content)), VOICE, atol=1e-4)
    assert notices_of(bytes(content)) == []
