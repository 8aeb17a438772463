"""Which files of a folder are recordings: all that can be read, and what is passed over is counted."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import av
import pytest
import soundfile
from av.codec import Codec
from av.format import ContainerFormat
from conftest import tone

from asr.audio import load_audio
from asr.audio_folder import AUDIO_ENDINGS, find_audio
from asr.errors import DataError
from asr.formats.container import _CONTAINERS

# Ending to libsndfile's format, or to FFmpeg's format and codec, which write it.
LIBSNDFILE = {
    **{"flac": "FLAC", "wav": "WAV", "wave": "WAVEX", "bwf": "WAV", "rf64": "RF64", "w64": "W64", "caf": "CAF", "voc": "VOC"},
    **dict.fromkeys(("aif", "aiff", "aifc"), "AIFF"),
    **dict.fromkeys(("au", "snd"), "AU"),
    **dict.fromkeys(("sph", "nist"), "NIST"),
    **dict.fromkeys(("ogg", "oga"), "OGG"),
    **dict.fromkeys(("mp3", "mpga"), "MP3"),
}
FFMPEG = {
    **{"tta": ("tta", "tta"), "wv": ("wv", "wavpack"), "opus": ("opus", "libopus"), "ac3": ("ac3", "ac3")},
    **{"amr": ("amr", "libopencore_amrnb"), "wma": ("asf", "wmav2"), "avi": ("avi", "mp3"), "flv": ("flv", "mp3")},
    **dict.fromkeys(("mp2", "m2a", "mpa"), ("mp2", "mp2")),
    **dict.fromkeys(("aac", "adts"), ("adts", "aac")),
    **dict.fromkeys(("eac3", "ec3"), ("eac3", "eac3")),
    **dict.fromkeys(("m4a", "m4b", "m4r"), ("ipod", "alac")),
    **dict.fromkeys(("mka", "mkv"), ("matroska", "libopus")),
    **dict.fromkeys(("weba", "webm"), ("webm", "libopus")),
    **dict.fromkeys(("mp4", "m4v", "f4v", "f4a"), ("mp4", "aac")),
    **dict.fromkeys(("mov", "qt"), ("mov", "pcm_s16le")),
    **dict.fromkeys(("3gp", "3gpp", "3g2", "3ga"), ("3gp", "aac")),
    **dict.fromkeys(("ogv", "ogx"), ("ogg", "libopus")),
    **dict.fromkeys(("wmv", "asf"), ("asf", "wmav2")),
    **dict.fromkeys(("mpg", "mpeg"), ("mpeg", "mp2")),
    **{"vob": ("vob", "mp2"), **dict.fromkeys(("ts", "mts", "m2ts", "m2t"), ("mpegts", "mp2"))},
}
BY_HAND = {"awb": b"#!AMR-WB\n" + 20 * (b"\x44" + bytes(60))}
NOT_WRITTEN = {"ape": ("ape", "ape"), "spx": ("ogg", "speex")}  # FFmpeg reads these, but does not write them
RATES = {"libopencore_amrnb": 8000, "mp2": 32000, "mp3": 44100, "libopus": 48000, "ac3": 48000, "eac3": 48000, "wmav2": 44100}


def write(path: Path, ending: str) -> None:
    if ending in BY_HAND:
        path.write_bytes(BY_HAND[ending])
    elif ending in LIBSNDFILE:
        soundfile.write(path, tone(0.3), 16000, format=LIBSNDFILE[ending])
    else:
        format, codec = FFMPEG[ending]
        rate = RATES.get(codec, 16000)
        with av.open(str(path), "w", format=format) as container:
            stream: Any = container.add_stream(codec, rate=rate, layout="mono")
            stream.bit_rate = 64000
            frame = av.AudioFrame.from_ndarray(tone(0.3, sample_rate=rate)[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            converter = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or None)
            for part in (*converter.resample(frame), *converter.resample(None)):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))


@pytest.mark.parametrize("ending", [ending[1:] for ending in AUDIO_ENDINGS])
def test_what_ends_so_can_be_read(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    if ending in NOT_WRITTEN:
        format, codec = NOT_WRITTEN[ending]
        assert format in _CONTAINERS
        assert Codec(codec, "r").type == "audio"
        return
    write(path, ending)
    waveform = load_audio(path, 16000)
    assert 0.25 < len(waveform) / 16000 < 0.5
    assert waveform.std() > 0.2 or ending in BY_HAND


def test_what_can_be_read_ends_so() -> None:
    pictures_or_parts = {"avif", "heic", "heif", "mj2", "ism", "isma", "ismv", "psp", "mk3d", "mks", "mac", "apl"}
    names = {name.split(",")[0] for name in _CONTAINERS}
    declared = set().union(*(ContainerFormat(name, "r").extensions for name in names)) - pictures_or_parts
    assert {f".{ending}" for ending in declared} <= set(AUDIO_ENDINGS)
    assert len(set(AUDIO_ENDINGS)) == len(AUDIO_ENDINGS)


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    for name in ["b.WAV", "a/1.mpg", "a/c/x y.ogv", "a/n.txt", "b.txt", "README", "a/._1.mp3", ".DS_Store", ".git/a.wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_audio(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.paths] == ["a/1.mpg", "a/c/x y.ogv", "b.WAV"]
    assert found.passed_over == Counter({".txt": 2, "without an ending": 1, "hidden": 1})
    notice = "passed over what does not end as audio does or is hidden, 4 in all: 2 .txt, 1 hidden, 1 without an ending"
    assert found.notice == notice
    assert find_audio(tmp_path / "a" / "c").notice is None
    for path in found.paths:
        path.unlink()
    with pytest.raises(DataError, match=rf"no audio file is below this folder; {notice}; expected names that end in \.flac"):
        find_audio(tmp_path)


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.wav").touch()
    os.symlink(tmp_path / "there", tmp_path / "in" / "link")
    os.symlink(tmp_path / "in", tmp_path / "in" / "self")
    os.symlink(tmp_path / "gone.wav", tmp_path / "in" / "broken.wav")  # named when it cannot be read
    assert [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path / "in").paths] == ["in/broken.wav", "in/link/a.wav"]
