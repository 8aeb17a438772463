"""The end, the time and the rate of recordings: what other programs write, joined files, guessed and foreign lengths."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, spoken, tone

import asr
from asr.audio import load_audio, probe_audio, stream_audio
from asr.errors import AudioError

RECORDINGS = Path(__file__).parent / "recordings"
VOICE, OTHER = 0.5 * spoken(1.5, 0), 0.5 * spoken(1.5, 1)
LONG = np.concatenate([0.5 * spoken(1.5, seed) for seed in range(4)])


def place(waveform: np.ndarray, voice: np.ndarray = VOICE) -> tuple[float, float]:
    """Return where a voice is in a waveform (s), and how like it that place is; 1 is the same."""
    size = len(waveform) + len(voice)
    product = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(voice, size).conj(), size)
    start = int(product.argmax())
    found = waveform[start : start + len(voice)]
    return start / SAMPLE_RATE, float(product.max() / (np.linalg.norm(found) * np.linalg.norm(voice)))


def read(source: Path | bytes, track: int | None = None) -> np.ndarray:
    """Read a recording; every way of reading gives the same."""
    waveform = load_audio(source, SAMPLE_RATE, track=track)
    streamed = np.concatenate(list(stream_audio(source, SAMPLE_RATE, 0.3, track=track)))
    np.testing.assert_allclose(streamed, waveform, atol=1e-5)
    if track is None:
        assert probe_audio(source).duration_s == pytest.approx(len(waveform) / SAMPLE_RATE, abs=0.05)
    start = len(waveform) // 3
    part = load_audio(source, SAMPLE_RATE, offset_s=start / SAMPLE_RATE, duration_s=0.25, track=track)
    assert len(part) == SAMPLE_RATE // 4
    if probe_audio(source).sample_rate == SAMPLE_RATE:
        np.testing.assert_allclose(part, waveform[start : start + SAMPLE_RATE // 4], atol=1e-5)
    return waveform


def written(waveform: np.ndarray, format: str, subtype: str | None = None, rate: int = SAMPLE_RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate, format=format, subtype=subtype)
    return stream.getvalue()


# The end


def test_mp3_from_a_pipe_is_read_to_its_end() -> None:
    waveform = read(RECORDINGS / "pipe.mp3")
    assert len(waveform) == 22 * 1152  # frames
    start_s, likeness = place(waveform)
    assert likeness > 0.99
    assert start_s < 0.1


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]
)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_joined_files_are_read_whole(format: str, subtype: str | None, rate: int) -> None:
    """The second one may have another rate; the third is as long as the first."""
    first, second = written(VOICE, format, subtype), written(OTHER if rate == 16000 else tone(1.0, rate), format, subtype, rate)
    alone = [load_audio(content, SAMPLE_RATE) for content in (first, second, first)]
    np.testing.assert_array_equal(read(first + second + first), np.concatenate(alone))
    np.testing.assert_array_equal(read(first + first), np.concatenate([alone[0], alone[0]]))


def test_joined_files_with_tags_between() -> None:
    mp3 = (RECORDINGS / "pipe.mp3").read_bytes()
    tag = b"ID3\4\0\0" + bytes((0, 0, 40, 0)) + bytes(40 * 128)
    last = b"TAG" + bytes(125)
    assert len(read(tag + mp3 + last + tag + mp3 + last)) == 2 * 22 * 1152


@pytest.mark.parametrize("junk", [bytes(300_000), np.random.default_rng(0).bytes(300_000)], ids=["zeros", "noise"])
def test_tags_and_junk_are_no_sound(junk: bytes) -> None:
    mp3 = (RECORDINGS / "pipe.mp3").read_bytes()
    picture = b"ID3\4\0\0" + bytes((0, 9, 20, 32)) + np.random.default_rng(1).bytes((9 << 14) + (20 << 7) + 32)
    np.testing.assert_array_equal(read(picture + mp3 + junk), read(mp3))
    stated = written(VOICE, "MP3")
    np.testing.assert_array_equal(read(stated + junk), read(stated))


@pytest.mark.parametrize("data_size", [10**9, 2 * 10**9, 0x7FF00000, 8])
@pytest.mark.parametrize("whole", [True, False])
def test_sizes_that_stand_for_unknown(data_size: int, whole: bool) -> None:
    content = bytearray(written(VOICE, "WAV"))
    content[4:8] = struct.pack("<I", len(content) - 8 if whole else data_size + 36)
    content[40:44] = struct.pack("<I", data_size)
    np.testing.assert_allclose(read(bytes(content)), VOICE, atol=1e-4)


def test_silence_behind_a_false_size_is_not_walked_through() -> None:
    """FFmpeg takes what follows the stated size for chunks, and zeros for empty ones of eight bytes."""
    sound = np.concatenate([np.zeros(20_000, np.float32), VOICE])
    content = bytearray(written(sound, "WAV"))
    content[40:44] = struct.pack("<I", 1000)

    class Counted(io.BytesIO):
        n_seeks = 0

        def seek(self, *arguments: int) -> int:
            self.n_seeks += 1
            return super().seek(*arguments)

    stream = Counted(bytes(content))
    np.testing.assert_allclose(load_audio(stream, SAMPLE_RATE), sound, atol=1e-4)
    assert stream.n_seeks < 200


def test_chunks_and_a_little_junk_behind_the_sound_of_a_wav_are_none() -> None:
    content = written(VOICE, "WAV")
    for behind in (b"LIST" + struct.pack("<I", 400) + b"INFO" + bytes(396), b"\xff\xfejunk" * 50):
        np.testing.assert_allclose(read(content + behind), VOICE, atol=1e-4)


@pytest.mark.parametrize("name", ["longer-pictures.flv", "longer-pictures.mkv"])
def test_pictures_may_be_longer_than_the_sound(name: str) -> None:
    waveform = read(RECORDINGS / name)
    assert 1.5 * SAMPLE_RATE <= len(waveform) < 1.65 * SAMPLE_RATE
    assert place(waveform)[1] > 0.9


# What is cut off


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "W64", "RF64", "SVX", "VOC", "NIST", "FLAC"])
def test_what_is_cut_off_is_an_error_that_can_be_passed(format: str) -> None:
    content = written(VOICE, format)
    cut = content[: len(content) * 2 // 3]
    for take in (lambda: load_audio(cut, SAMPLE_RATE), lambda: list(stream_audio(cut, SAMPLE_RATE))):
        with pytest.raises(AudioError, match="audio bytes: is truncated"):
            take()
    losses: list[str] = []
    waveform = load_audio(cut, SAMPLE_RATE, lose=losses.append)
    assert 0.5 * SAMPLE_RATE < len(waveform) <= 1.1 * SAMPLE_RATE
    np.testing.assert_allclose(waveform, VOICE[: len(waveform)], atol=1e-4)
    assert len(losses) == 1
    assert "truncated" in losses[0]


@pytest.mark.parametrize("name", ["longer-pictures.flv", "longer-pictures.mkv"])
def test_a_film_that_is_cut_off_says_so_with_both_numbers(name: str) -> None:
    content = (RECORDINGS / name).read_bytes()
    cut = content[: len(content) // 2]
    with pytest.raises(AudioError, match=r"is truncated: its time stamps end at [0-2]\.\d\d s, its header promises 4\.\d\d s"):
        load_audio(cut, SAMPLE_RATE)
    losses: list[str] = []
    waveform = load_audio(cut, SAMPLE_RATE, lose=losses.append)
    assert 0.3 * SAMPLE_RATE < len(waveform) < 1.4 * SAMPLE_RATE
    assert len(losses) == 1


# Holes


def with_hole(content: bytes, n_bytes: int) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(n_bytes) + content[middle + n_bytes :]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(3 * (RECORDINGS / "pipe.mp3").read_bytes(), id="mp3 without a length"),
        pytest.param(written(LONG, "MP3"), id="mp3"),
        pytest.param(written(LONG, "FLAC"), id="flac"),
        pytest.param(written(LONG, "OGG", "OPUS"), id="opus"),
        pytest.param(written(LONG, "OGG", "VORBIS"), id="vorbis"),
    ],
)
def test_reading_goes_on_behind_a_hole(content: bytes) -> None:
    damaged = with_hole(content, 3000)
    whole = load_audio(content, SAMPLE_RATE)
    for take in (lambda: load_audio(damaged, SAMPLE_RATE), lambda: list(stream_audio(damaged, SAMPLE_RATE))):
        with pytest.raises(AudioError, match=r"audio bytes: is (corrupt|truncated)"):
            take()
    losses: list[str] = []
    waveform = load_audio(damaged, SAMPLE_RATE, lose=losses.append)
    n_same = len(whole) // 4
    assert place(waveform, whole[:n_same])[1] > 0.95
    start_s, likeness = place(waveform, whole[-n_same:])
    assert likeness > 0.95
    assert start_s <= (len(whole) - n_same) / SAMPLE_RATE + 0.1
    assert len(losses) == 1
    assert re.search(r"; \d\.\d\d (of \d\.\d\d )?s could be read", losses[0])
    streamed = np.concatenate(list(stream_audio(damaged, SAMPLE_RATE, lose=losses.append)))
    assert len(streamed) == pytest.approx(len(waveform), abs=10)


# Time


def test_sound_that_begins_later_than_the_pictures() -> None:
    waveform = read(RECORDINGS / "late-sound.mp4")
    start_s, likeness = place(waveform)
    assert start_s == pytest.approx(2.0, abs=0.01)
    assert likeness > 0.9
    assert not waveform[: int(1.8 * SAMPLE_RATE)].any()


def test_gaps_between_time_stamps_are_silence() -> None:
    notices: list[str] = []
    waveform = load_audio(RECORDINGS / "gap.webm", SAMPLE_RATE, tell=notices.append)
    assert len(waveform) == len(read(RECORDINGS / "gap.webm")) == pytest.approx(3.5 * SAMPLE_RATE, abs=400)
    start_s, likeness = place(waveform, VOICE[10000:])
    assert start_s == pytest.approx(2 + 10000 / SAMPLE_RATE, abs=0.01)
    assert likeness > 0.9
    assert notices == ["its time stamps leave gaps, taken for silence, from 0.54 to 2.53 s"]


def test_times_of_segments_count_from_the_beginning_of_the_film(package: Path) -> None:
    (segment,) = asr.load_model(package).stream(RECORDINGS / "late-sound.mp4")
    assert 1.5 < segment.start_s < 2.5


# Rate and track


def test_the_rate_may_change_on_the_way() -> None:
    waveform = read(RECORDINGS / "rates.aac")
    half = len(waveform) // 2
    for part in (waveform[:half], waveform[half:]):
        start_s, likeness = place(part)
        assert start_s < 0.15
        assert likeness > 0.9


def test_the_default_track_is_read_and_the_others_are_told_of() -> None:
    notices: list[str] = []
    waveform = load_audio(RECORDINGS / "tracks.mka", SAMPLE_RATE, tell=notices.append)
    assert place(waveform)[1] > 0.95
    (notice,) = notices
    assert notice.startswith("holds 2 audio tracks (track 0 ger; track 1 eng); track 1 eng is read; ")
    for track, voice in enumerate((OTHER, VOICE)):
        assert place(read(RECORDINGS / "tracks.mka", track=track), voice)[1] > 0.9
    with pytest.raises(AudioError, match=r"tracks\.mka: has no audio track 2; it has track 0 ger; track 1 eng"):
        load_audio(RECORDINGS / "tracks.mka", SAMPLE_RATE, track=2)
    with pytest.raises(AudioError, match=r"pipe\.mp3: has no audio track 1; it has track 0 alone"):
        load_audio(RECORDINGS / "pipe.mp3", SAMPLE_RATE, track=1)


# Python


def test_the_recogniser_keeps_going(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(written(VOICE, "WAV")[:30000])
    strict, lenient = asr.load_model(package), asr.load_model(package, keep_going=True, vad=False)
    with pytest.raises(AudioError, match="is truncated"):
        strict.transcribe(path)
    transcript = lenient.transcribe(path)
    assert transcript.duration_s == pytest.approx(0.93, abs=0.02)
    assert transcript.losses == ("is truncated: its header promises 48000 bytes of audio, 29956 are there",)
    told: list[str] = []
    assert list(lenient.stream(path, on_notice=told.append)) == list(transcript.segments)
    assert told[-1:] == list(transcript.losses)
    with pytest.warns(UserWarning, match=r"cut\.wav: is truncated"):
        list(lenient.stream(path))


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32"])
def test_parts_of_codecs_that_cannot_seek(subtype: str) -> None:
    content = written(VOICE, "WAV", subtype)
    whole = load_audio(content, SAMPLE_RATE)
    np.testing.assert_array_equal(load_audio(content, SAMPLE_RATE, offset_s=0.5, duration_s=0.25), whole[8000:12000])
