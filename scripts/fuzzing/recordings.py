"""Films, joined files, streams from pipes, odd time stamps and lengths, whole and damaged, made from a seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from conftest import SAMPLE_RATE, spoken

from asr.audio import load_audio, probe_audio, stream_audio
from asr.errors import AudioError
from asr.resampling import resample
from fuzzing.kind import Mutant
from fuzzing.second_reader import compare
from fuzzing.watched import Handle, Silent

# Container and codec in FFmpeg's words, ending, sample rate (Hz), and whether it holds pictures and gaps.
_FILMS: dict[str, tuple[str, str, str, int, bool]] = {
    "mkv": ("matroska", "aac", "mkv", 44100, True),
    "mkv mp3": ("matroska", "libmp3lame", "mkv", 16000, True),
    "webm": ("webm", "libopus", "webm", 48000, False),
    "mp4": ("mp4", "aac", "mp4", 16000, True),
    "mov": ("mov", "pcm_s16le", "mov", 16000, True),
    "flv": ("flv", "aac", "flv", 44100, False),
    "avi": ("avi", "mp2", "avi", 48000, True),
    "ts": ("mpegts", "aac", "ts", 48000, False),
    "wmv": ("asf", "wmav2", "wmv", 44100, True),
    "mp3": ("mp3", "libmp3lame", "mp3", 16000, False),
    "aac": ("adts", "aac", "aac", 44100, False),
    "ogg": ("ogg", "libopus", "opus", 48000, False),
    "flac": ("flac", "flac", "flac", 16000, False),
}
_JOINED = {
    "wav": ("WAV", None),
    "flac": ("FLAC", None),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
_STAMPED = ("mkv", "mkv mp3", "webm", "mp4", "mov", "flv", "ts")
_SIZES = (0, 8, 10**9, 2 * 10**9, 0x7FF00000, 0x7FFFFFFF, 0xFFFFFFFF)


class _Pipe(io.BytesIO):
    """What cannot seek, so that no header is completed."""

    seek = tell = None  # type: ignore[assignment]


class Fuzzed:
    """Recordings that are read in every way; each must give all that was written, or name what is wrong."""

    number = 300
    limit_s = 30.0

    def __init__(self, scratch: Path) -> None: ...

    def load(self) -> Handle:
        return read

    def mutant(self, index: int, seed: int, folder: Path) -> Mutant:
        rng = np.random.default_rng([seed, index])
        make = (_film, _joined, _wav)[int(rng.choice(3, p=(0.6, 0.3, 0.1)))]
        group, ending, content, length_s = make(rng)
        damage = str(rng.choice(list(_DAMAGE), p=(0.5, 0.15, 0.1, 0.15, 0.1)))
        content = _DAMAGE[damage](content, rng)
        whole = f"-{length_s:.2f}s" if damage in ("none", "junk behind") else ""
        path = folder / f"{seed}-{index:05}-{group}-{damage}{whole}.{ending}".replace(" ", "-")
        path.write_bytes(content)
        return Mutant(path, group, damage)


def read(path: Path) -> None:
    """Read a recording in every way; the name of one that is whole tells how long it is at least."""
    told: list[str] = []
    try:
        waveform = load_audio(path, SAMPLE_RATE, tell=told.append)
    except AudioError:
        _read_on(path)
        raise
    n_streamed = sum(map(len, stream_audio(path, SAMPLE_RATE)))
    if abs(n_streamed - len(waveform)) > 0.01 * SAMPLE_RATE:
        raise Silent(f"{len(waveform)} samples were read, {n_streamed} in blocks")
    probed_s, read_s = probe_audio(path).duration_s, len(waveform) / SAMPLE_RATE
    if abs(probed_s - read_s) > 0.1:
        raise Silent(f"{read_s:.2f} s were read, {probed_s:.2f} s are stated")
    stated = path.stem.rpartition("-")[2]
    if not stated.endswith("s"):
        compare(waveform, path)
    elif read_s < float(stated.removesuffix("s")) - 0.15:  # FFmpeg reads what encoders padded at each of several joints
        raise Silent(f"{read_s:.2f} s were read, {stated} are there")


def _read_on(path: Path) -> None:
    losses: list[str] = []
    try:
        waveform = load_audio(path, SAMPLE_RATE, lose=losses.append)
    except AudioError:
        return
    if not losses:
        raise Silent(f"{len(waveform) / SAMPLE_RATE:.2f} s were read behind damage, and nothing was said")


_Made = tuple[str, str, bytes, float]
"""What it is, ending of its name, content, and least length (s)."""


def _film(rng: np.random.Generator) -> _Made:
    name = str(rng.choice(list(_FILMS)))
    container, codec, ending, rate, pictures = _FILMS[name]
    stamped = name in _STAMPED
    late_s = float(rng.choice([0.0, 0.0, 1.0, 3.0])) if stamped and pictures else 0.0
    gap_s = float(rng.choice([0.0, 0.0, 1.5, 4.0])) if stamped and name != "mov" else 0.0
    length_s = float(rng.uniform(1.0, 3.0))
    pictures_s = float(rng.choice([late_s, 2.0, 8.0])) if pictures else 0.0
    piped = container not in ("mp4", "mov") and rng.random() < 0.4
    waveform = resample(0.5 * spoken(length_s, int(rng.integers(4))), SAMPLE_RATE, rate)
    stream = _Pipe() if piped else io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"} if container in ("mp4", "mov") and rng.random() < 0.4 else {}
    with av.open(stream, "w", format=container, options=options) as output:
        _write_film(output, codec, rate, waveform, late_s, gap_s, max(pictures_s, late_s) if pictures else 0.0)
    shown = [name, *(["late"] if late_s else []), *(["gap"] if gap_s else []), *(["piped"] if piped else [])]
    return " ".join(shown), ending, stream.getvalue(), (late_s if pictures else 0.0) + gap_s + length_s


def _write_film(
    output: Any, codec: str, rate: int, waveform: np.ndarray, late_s: float, gap_s: float, pictures_s: float
) -> None:
    video: Any = output.add_stream("mjpeg", rate=5) if pictures_s else None
    if video is not None:
        video.width = video.height = 16
        video.pix_fmt = "yuvj420p"
    audio = output.add_stream(codec, rate=rate, layout="mono")
    audio.bit_rate = 64000
    packets: list[Any] = []
    for index in range(round(5 * pictures_s)):
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        picture.pts, picture.time_base = index, Fraction(1, 5)
        packets += video.encode(picture)
    packets += video.encode(None) if video is not None else []
    step = rate // 50
    for start in range(0, len(waveform), step):
        frame = av.AudioFrame.from_ndarray(waveform[None, start : start + step].copy(), format="flt", layout="mono")
        jump_s = late_s + (gap_s if start >= len(waveform) // 2 else 0.0)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start + round(jump_s * rate)
        packets += audio.encode(frame)
    packets += audio.encode(None)
    for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
        output.mux(packet)


def _joined(rng: np.random.Generator) -> _Made:
    name = str(rng.choice(list(_JOINED)))
    format, subtype = _JOINED[name]
    parts, length_s = [], 0.0
    for _ in range(rng.integers(2, 5)):
        rate = int(rng.choice([16000, 48000]))
        seconds = float(rng.choice([0.5, 1.0, 1.7]))
        voice = resample(0.5 * spoken(seconds, int(rng.integers(4))), SAMPLE_RATE, rate)
        stream = io.BytesIO()
        soundfile.write(stream, np.stack([voice] * int(rng.integers(1, 3)), axis=1), rate, format=format, subtype=subtype)
        parts.append(stream.getvalue())
        length_s += seconds
    return f"joined {name}", name, b"".join(parts), length_s


def _wav(rng: np.random.Generator) -> _Made:
    seconds = float(rng.uniform(0.5, 3.0))
    stream = io.BytesIO()
    soundfile.write(stream, 0.5 * spoken(seconds, 1), SAMPLE_RATE, format="WAV")
    content = bytearray(stream.getvalue())
    content[40:44] = int(rng.choice(_SIZES)).to_bytes(4, "little")
    content[4:8] = int(rng.choice((*_SIZES, len(content) - 8))).to_bytes(4, "little")
    if not any(content[40:44]):
        content[4:8] = bytes(4)  # else the header says that there is nothing
    return "wav of unknown size", "wav", bytes(content), seconds


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.uniform(0.2, 1.0) * len(content))]


def _hole(content: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.uniform(0.1, 0.9) * len(content)), int(rng.choice([100, 1000, 5000]))
    return content[:start] + rng.bytes(min(length, len(content) - start)) + content[start + length :]


def _removed(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.uniform(0.1, 0.9) * len(content))
    return content[:start] + content[start + int(rng.choice([100, 1000, 5000])) :]


_DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "none": lambda content, rng: content,
    "cut": _cut,
    "removed": _removed,
    "hole": _hole,
    "junk behind": lambda content, rng: content + bytes(int(rng.choice([50, 3000]))),
}
