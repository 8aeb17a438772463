"""Damaged audio files of every format, made from a seed."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from conftest import SAMPLE_RATE, spoken, write_nonsense_package

from asr.audio import load_audio
from asr.resampling import resample
from fuzzing.kind import Mutant
from fuzzing.second_reader import compare
from fuzzing.watched import Handle

Mutate = Callable[[bytes, np.random.Generator], bytes]

# Ending, format and encoding in libsndfile's words.
_SOUNDFILE: dict[str, tuple[str, str, str]] = {
    "wav pcm16": ("wav", "WAV", "PCM_16"),
    "wav pcm24": ("wav", "WAV", "PCM_24"),
    "wav float": ("wav", "WAV", "FLOAT"),
    "wav double": ("wav", "WAV", "DOUBLE"),
    "wav u8": ("wav", "WAV", "PCM_U8"),
    "wav mulaw": ("wav", "WAV", "ULAW"),
    "wav alaw": ("wav", "WAV", "ALAW"),
    "wav ima": ("wav", "WAV", "IMA_ADPCM"),
    "wav ms adpcm": ("wav", "WAV", "MS_ADPCM"),
    "wav gsm": ("wav", "WAV", "GSM610"),
    "wav g721": ("wav", "WAV", "G721_32"),
    "wav extensible": ("wav", "WAVEX", "PCM_16"),
    "rf64": ("rf64", "RF64", "PCM_16"),
    "w64": ("w64", "W64", "PCM_16"),
    "aiff": ("aiff", "AIFF", "PCM_16"),
    "aiff gsm": ("aif", "AIFF", "GSM610"),
    "au": ("au", "AU", "PCM_16"),
    "au g723": ("au", "AU", "G723_24"),
    "caf": ("caf", "CAF", "PCM_16"),
    "caf alac": ("caf", "CAF", "ALAC_16"),
    "flac": ("flac", "FLAC", "PCM_16"),
    "flac 24": ("flac", "FLAC", "PCM_24"),
    "vorbis": ("ogg", "OGG", "VORBIS"),
    "opus": ("opus", "OGG", "OPUS"),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III"),
    "nist": ("sph", "NIST", "PCM_16"),
    "voc": ("voc", "VOC", "PCM_16"),
    "svx": ("svx", "SVX", "PCM_16"),
    "sds": ("sds", "SDS", "PCM_16"),
    "paf": ("paf", "PAF", "PCM_24"),
    "pvf": ("pvf", "PVF", "PCM_16"),
    "htk": ("htk", "HTK", "PCM_16"),
    "avr": ("avr", "AVR", "PCM_16"),
    "ircam": ("sf", "IRCAM", "FLOAT"),
    "mat4": ("mat", "MAT4", "PCM_16"),
    "mat5": ("mat", "MAT5", "FLOAT"),
    "mpc2k": ("mpc", "MPC2K", "PCM_16"),
    "wve": ("wve", "WVE", "ALAW"),
    "xi": ("xi", "XI", "DPCM_16"),
}
_ONE_CHANNEL = ("wav gsm", "wav g721", "aiff gsm", "au g723", "svx", "sds", "htk", "wve", "xi")
_BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no random identifiers in the header

# Ending, container and codec in FFmpeg's words, and the sample rate (Hz).
_PYAV: dict[str, tuple[str, str, str, int]] = {
    "m4a": ("m4a", "ipod", "aac", 16000),
    "m4a alac": ("m4a", "ipod", "alac", 16000),
    "mp4": ("mp4", "mp4", "aac", 48000),
    "mp4 opus": ("mp4", "mp4", "libopus", 48000),
    "mp4 mp3": ("mp4", "mp4", "libmp3lame", 44100),
    "mov": ("mov", "mov", "pcm_s16le", 16000),
    "3gp": ("3gp", "3gp", "aac", 16000),
    "webm": ("webm", "webm", "libopus", 48000),
    "mka": ("mka", "matroska", "pcm_s16le", 16000),
    "aac": ("aac", "adts", "aac", 16000),
    "ac3": ("ac3", "ac3", "ac3", 48000),
    "eac3": ("eac3", "eac3", "eac3", 48000),
    "amr": ("amr", "amr", "libopencore_amrnb", 8000),
    "flv": ("flv", "flv", "aac", 44100),
    "avi": ("avi", "avi", "pcm_s16le", 16000),
    "avi mp2": ("avi", "avi", "mp2", 48000),
    "mpegts": ("ts", "mpegts", "aac", 48000),
    "mpeg": ("mpg", "mpeg", "mp2", 48000),
    "mp2": ("mp2", "mp2", "mp2", 16000),
    "tta": ("tta", "tta", "tta", 16000),
    "wavpack": ("wv", "wv", "wavpack", 16000),
}
FORMATS = (*_SOUNDFILE, *_PYAV)
ENDINGS = (*dict.fromkeys(row[0] for row in (*_SOUNDFILE.values(), *_PYAV.values())), "raw", "sd2", "txt", "")


@dataclass(frozen=True)
class DamagedAudio:
    """A damaged file.

    Attributes
    ----------
    format
        What it was made from, one of ``FORMATS``.
    mutation
        What was done to it, one of ``MUTATIONS``.
    ending
        Of its name, without the dot; it may be another format's.
    content
        Its bytes.
    """

    format: str
    mutation: str
    ending: str
    content: bytes


def damaged(index: int, seed: int) -> DamagedAudio:
    """Make one of a seed's files, whatever the others are. The formats take turns."""
    rng = np.random.default_rng([seed, index])
    format = FORMATS[index % len(FORMATS)]
    mutation = str(rng.choice(list(MUTATIONS)))
    content = MUTATIONS[mutation](original(format, bool(rng.integers(2))), rng)
    if mutation not in _ALONE and rng.random() < 0.25:
        content = _changed(content, rng)
    ending = rng.choice(ENDINGS) if mutation == "ending" else _row(format)[0]
    return DamagedAudio(format, mutation, str(ending), content)


class Fuzzed:
    """Damaged audio, transcribed by a small network of random weights on one thread, as ``asr transcribe`` does it.

    What is read without an error is compared with what FFmpeg's command reads, where it is installed.
    """

    number = 1000
    limit_s = 10.0

    def __init__(self, scratch: Path) -> None:
        self.package = write_nonsense_package(scratch / "package")

    def load(self) -> Handle:
        import torch

        import asr

        torch.set_num_threads(1)
        recogniser = asr.load_model(self.package)

        def transcribe(path: Path) -> None:
            recogniser.transcribe(path)
            compare(load_audio(path, SAMPLE_RATE), path)

        return transcribe

    def mutant(self, index: int, seed: int, folder: Path) -> Mutant:
        made = damaged(index, seed)
        stem = f"{seed}-{index:05}-{made.format}-{made.mutation}".replace(" ", "-")
        path = folder / (f"{stem}.{made.ending}" if made.ending else stem)
        path.write_bytes(made.content)
        return Mutant(path, made.format, made.mutation)


@cache
def original(format: str, second: bool = False) -> bytes:
    """Return an undamaged file of a format: a second of a synthetic voice, or two and a half of two where two are possible.

    The bytes are the same every time but for what libraries draw themselves, such as the number of an Ogg stream.
    """
    n_channels = 2 if second and format not in (*_ONE_CHANNEL, "amr") else 1
    rate = _PYAV[format][3] if format in _PYAV else (44100 if second else SAMPLE_RATE)
    if format == "opus":
        rate = 48000 if second else SAMPLE_RATE
    voices = [0.5 * spoken(2.5 if second else 1.0, seed) for seed in range(n_channels)]
    channels = np.stack([resample(voice, SAMPLE_RATE, rate) for voice in voices])
    if format in _PYAV:
        return _contained(*_PYAV[format][1:], channels, index_first=second)
    stream = io.BytesIO()
    _, container, subtype = _SOUNDFILE[format]
    soundfile.write(stream, channels.T, rate, format=container, subtype=subtype)
    return stream.getvalue()


def _contained(container: str, codec: str, rate: int, channels: np.ndarray, *, index_first: bool) -> bytes:
    layout = "stereo" if len(channels) == 2 else "mono"
    options = {"movflags": "faststart"} if index_first and container in ("ipod", "mp4", "mov") else {}
    # FFmpeg opens the file again, by its name, to put the index first.
    with tempfile.NamedTemporaryFile() as file, av.open(file.name, "w", format=container, options=options) as output:
        output.flags |= _BITEXACT
        audio: Any = output.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in (*audio.encode(frame), *audio.encode(None)):
            output.mux(packet)
        output.close()
        return file.read()


def _row(format: str) -> tuple[str, ...]:
    return _SOUNDFILE.get(format) or tuple(map(str, _PYAV[format]))


def _where(content: bytes, rng: np.random.Generator) -> int:
    """Draw a place, half of the time one among the first 200 bytes, where headers are."""
    n_bytes = max(1, len(content))
    return int(rng.integers(min(200, n_bytes) if rng.random() < 0.5 else n_bytes))


def _cut_begin(content: bytes, rng: np.random.Generator) -> bytes:
    return content[1 + _where(content, rng) :]


def _cut_end(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _where(content, rng)]


def _field(content: bytes, rng: np.random.Generator) -> bytes:
    """Let up to three whole numbers in the header lie."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        width = int(rng.choice([2, 4, 4, 8]))
        bits = 8 * width
        value = (0, 1, 2 ** (bits - 1) - 1, 2**bits - 1)[rng.integers(4)]
        # The index of an mp4 may lie behind the first 200 bytes.
        place = int(rng.integers(min(1000 if rng.random() < 0.25 else 200, max(1, len(changed) - width))))
        changed[place : place + width] = value.to_bytes(width, "little" if rng.integers(2) else "big")
    return bytes(changed)


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(2 ** rng.integers(8)):
        changed[_where(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    start = _where(content, rng)
    noise = rng.bytes(min(2 ** int(rng.integers(12)), len(content) - start))
    return content[:start] + noise + content[start + len(noise) :]


def _inserted(content: bytes, rng: np.random.Generator) -> bytes:
    start = _where(content, rng)
    return content[:start] + rng.bytes(2 ** int(rng.integers(12))) + content[start:]


def _removed(content: bytes, rng: np.random.Generator) -> bytes:
    start = _where(content, rng)
    return content[:start] + content[start + 2 ** int(rng.integers(12)) :]


def _shuffled(content: bytes, rng: np.random.Generator) -> bytes:
    """Shuffle the blocks, now and then with the header among them."""
    size = 2 ** int(rng.integers(4, 12))
    kept = 0 if rng.random() < 0.25 else 200
    blocks = [content[start : start + size] for start in range(kept, len(content), size)]
    return content[:kept] + b"".join(blocks[index] for index in rng.permutation(len(blocks)))


def _joined(content: bytes, rng: np.random.Generator) -> bytes:
    """Follow the file, or its first part, by one of another format."""
    other = original(FORMATS[rng.integers(len(FORMATS))])
    return (content if rng.integers(2) else _cut_end(content, rng)) + other


def _changed(content: bytes, rng: np.random.Generator) -> bytes:
    changes = (_field, _flipped, _overwritten, _cut_end)
    return changes[rng.integers(len(changes))](content, rng) if content else content


# No further damage is done to what came of these.
_ALONE = ("none", "zeros", "empty", "text")
MUTATIONS: dict[str, Mutate] = {
    "none": lambda content, rng: content,
    "begin cut": _cut_begin,
    "end cut": _cut_end,
    "header alone": lambda content, rng: content[: int(rng.integers(1, 200))],
    "field": _field,
    "bits flipped": _flipped,
    "overwritten": _overwritten,
    "inserted": _inserted,
    "removed": _removed,
    "shuffled": _shuffled,
    "joined": _joined,
    "ending": lambda content, rng: content,
    "zeros": lambda content, rng: bytes(len(content)),
    "empty": lambda content, rng: b"",
    "text": lambda content, rng: "Dear diary, today it was cold – 5 °C.\n".encode() * int(rng.integers(1, 200)),
}
