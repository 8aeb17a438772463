"""Reading audio: every format and every kind of damage."""

from __future__ import annotations

import errno
import io
import re
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, tone

from asr.audio import load_audio, probe_audio, stream_audio
from asr.errors import AudioError
from asr.formats.container import Container
from asr.resampling import resample
from asr.waveform import check_waveform


def write_m4a(
    path: Path, waveform: np.ndarray, sample_rate: int, *, index_first: bool = False, format: str = "ipod", codec: str = "aac"
) -> None:
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", format=format, options=options) as container:
        stream: Any = container.add_stream(codec, rate=sample_rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None, :].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Largest normalised cross-correlation: 1 for the same signal, whatever its delay."""
    size = 2 * max(len(first), len(second))
    product = np.fft.irfft(np.fft.rfft(first, size) * np.fft.rfft(second, size).conj())
    return float(product.max() / (np.linalg.norm(first) * np.linalg.norm(second)))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats_of_libsndfile(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(1.0), SAMPLE_RATE)
    waveform = load_audio(path, SAMPLE_RATE)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert len(waveform) == pytest.approx(SAMPLE_RATE, abs=2400)
    assert similarity(waveform, tone(1.0)) > 0.95


def test_opus(tmp_path: Path) -> None:
    path = tmp_path / "tone.opus"
    soundfile.write(path, tone(1.0), SAMPLE_RATE, format="OGG", subtype="OPUS")
    assert similarity(load_audio(path, SAMPLE_RATE), tone(1.0)) > 0.95


def test_m4a_through_pyav(tmp_path: Path) -> None:
    path = tmp_path / "tone.m4a"
    write_m4a(path, tone(1.0, sample_rate=44100), 44100)
    waveform = load_audio(path, SAMPLE_RATE)
    assert similarity(waveform, tone(1.0)) > 0.95
    assert len(waveform) == pytest.approx(SAMPLE_RATE, abs=2400)
    assert probe_audio(path).sample_rate == 44100
    assert similarity(load_audio(path, SAMPLE_RATE, offset_s=0.25, duration_s=0.5), tone(0.5)) > 0.95


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("index_first", [False, True])
def test_truncated_m4a(tmp_path: Path, share: float, index_first: bool) -> None:
    path = tmp_path / "tone.m4a"
    write_m4a(path, tone(4.0), SAMPLE_RATE, index_first=index_first)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(AudioError, match=r"tone\.m4a.*truncated"):
        load_audio(path, SAMPLE_RATE)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_webm_whole_and_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / "noise.webm"
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 8 * 48000)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise, format="flt", layout="mono")
        frame.sample_rate = 48000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    if share == 1.0:
        assert len(load_audio(path, SAMPLE_RATE)) == pytest.approx(8 * SAMPLE_RATE, abs=1000)
        return
    for read in (lambda: load_audio(path, SAMPLE_RATE), lambda: list(stream_audio(path, SAMPLE_RATE))):
        with pytest.raises(AudioError, match=r"noise\.webm: is truncated"):
            read()


@pytest.mark.parametrize("codec", ["aac", "alac"])
def test_part_of_m4a_is_that_of_the_whole_and_no_more_is_held(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "long.m4a"
    noise = 0.1 * np.random.default_rng(0).standard_normal(30 * SAMPLE_RATE)
    write_m4a(path, noise, SAMPLE_RATE, codec=codec)
    whole = load_audio(path, SAMPLE_RATE)
    for offset_s, duration_s in ((0.0, 0.5), (0.0123, 0.01), (12.3456, 1.5), (29.0, None), (29.0, 99.0)):
        start = round(offset_s * SAMPLE_RATE)
        end = None if duration_s is None else start + round(duration_s * SAMPLE_RATE)
        tracemalloc.start()
        part = load_audio(path, SAMPLE_RATE, offset_s=offset_s, duration_s=duration_s)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(part, whole[start:end])
        assert peak < whole.nbytes / 4
    with pytest.raises(AudioError, match="holds no audio samples from 99 s on"):
        load_audio(path, SAMPLE_RATE, offset_s=99.0)


def test_what_follows_a_part_of_m4a_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.m4a"
    write_m4a(path, tone(10.0), SAMPLE_RATE)
    n_decoded = 0
    blocks = Container.blocks

    def counted(container: Container) -> Iterator[tuple[int, np.ndarray]]:
        nonlocal n_decoded
        for rate, block in blocks(container):
            n_decoded += len(block)
            yield rate, block

    monkeypatch.setattr(Container, "blocks", counted)
    load_audio(path, SAMPLE_RATE, offset_s=1.0, duration_s=1.0)
    assert 2 * SAMPLE_RATE <= n_decoded < 2.2 * SAMPLE_RATE


def test_stereo_is_averaged_and_resampled(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left = tone(1.0, sample_rate=44100)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], axis=1), 44100, subtype="FLOAT")
    waveform = load_audio(path, SAMPLE_RATE)
    assert len(waveform) == SAMPLE_RATE
    np.testing.assert_allclose(waveform[200:-200], tone(1.0)[200:-200] / 2, atol=2e-3)
    assert probe_audio(path).n_channels == 2


@pytest.mark.parametrize("suffix", ["wav", "flac", "m4a"])
def test_one_channel_or_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"two.{suffix}"
    channels = np.stack([tone(1.0), tone(1.0, frequency_hz=1000.0)])
    if suffix == "m4a":
        with av.open(str(path), "w", format="ipod") as container:
            stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout="stereo")
            frame.sample_rate = SAMPLE_RATE
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
    else:
        soundfile.write(path, channels.T, SAMPLE_RATE)
    for channel in (0, 1):
        alone = load_audio(path, SAMPLE_RATE, channel=channel)
        assert similarity(alone, channels[channel]) > 0.95
        assert similarity(alone, channels[1 - channel]) < 0.1
        streamed = list(stream_audio(path, SAMPLE_RATE, 0.3, channel=channel))
        np.testing.assert_allclose(np.concatenate(streamed), alone, atol=1e-6)
    assert similarity(load_audio(path, SAMPLE_RATE), channels.sum(axis=0)) > 0.95
    for channel in (2, -1):
        with pytest.raises(AudioError, match=rf"two\.{suffix}: has no channel {channel}; it has channels 0 to 1"):
            load_audio(path, SAMPLE_RATE, channel=channel)


def test_channels_that_are_not_there(tone_wav: Path) -> None:
    with pytest.raises(AudioError, match=r"tone\.wav: has no channel 1; it has channel 0 alone"):
        list(stream_audio(tone_wav, SAMPLE_RATE, channel=1))


def test_bytes_and_file_objects_equal_the_file(tone_wav: Path) -> None:
    expected = load_audio(tone_wav, SAMPLE_RATE)
    np.testing.assert_array_equal(load_audio(tone_wav.read_bytes(), SAMPLE_RATE), expected)
    np.testing.assert_array_equal(load_audio(io.BytesIO(tone_wav.read_bytes()), SAMPLE_RATE), expected)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_offset_and_duration(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noise.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE).astype(np.float32)
    soundfile.write(path, noise, SAMPLE_RATE, subtype="PCM_24")
    part = load_audio(path, SAMPLE_RATE, offset_s=0.25, duration_s=0.125)
    np.testing.assert_allclose(part, noise[4000:6000], atol=1e-6)
    assert len(load_audio(path, SAMPLE_RATE, offset_s=0.75)) == 4000
    with pytest.raises(AudioError, match="holds no audio samples from 2 s on"):
        load_audio(path, SAMPLE_RATE, offset_s=2.0)
    with pytest.raises(AudioError, match="expected an offset"):
        load_audio(path, SAMPLE_RATE, offset_s=-1.0)


def test_missing_file(tmp_path: Path) -> None:
    for read in (lambda path: load_audio(path, SAMPLE_RATE), probe_audio):
        with pytest.raises(AudioError, match=r"gone\.wav: no such audio file"):
            read(tmp_path / "gone.wav")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path, SAMPLE_RATE)


@pytest.mark.parametrize("name", ["empty.wav", "empty.mp3", "empty.m4a"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(AudioError, match=f"{name}: is empty"):
        load_audio(tmp_path / name, SAMPLE_RATE)


def test_wav_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "nothing.wav"
    soundfile.write(path, np.zeros(0, np.float32), SAMPLE_RATE)
    for read in (
        lambda: load_audio(path, SAMPLE_RATE),
        lambda: probe_audio(path),
        lambda: list(stream_audio(path, SAMPLE_RATE)),
    ):
        with pytest.raises(AudioError, match="holds no audio samples"):
            read()


def streamed_wav(riff_size: int, data_size: int, more: bytes = b"") -> bytes:
    """Half a second of a tone behind a header whose sizes are given."""
    stream = io.BytesIO()
    soundfile.write(stream, tone(), SAMPLE_RATE, format="WAV")
    content = bytearray(stream.getvalue() + more)
    content[4:8], content[40:44] = struct.pack("<I", riff_size), struct.pack("<I", data_size)
    return bytes(content)


def assert_read(content: bytes, expected: np.ndarray, atol: float = 1e-4) -> None:
    """Every reader finds these samples in a file."""
    np.testing.assert_allclose(load_audio(content, SAMPLE_RATE), expected, atol=atol)
    np.testing.assert_allclose(np.concatenate(list(stream_audio(content, SAMPLE_RATE, 0.1))), expected, atol=atol)
    start, end = SAMPLE_RATE // 8, SAMPLE_RATE // 4
    part = load_audio(content, SAMPLE_RATE, offset_s=1 / 8, duration_s=1 / 8)
    np.testing.assert_allclose(part, expected[start:end], atol=atol)
    assert probe_audio(content).n_samples == len(expected)


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [
        pytest.param(0x7FFFF024, 0x7FFFF000, id="SoX"),
        pytest.param(0x80000024, 0x80000000, id="arecord"),
        pytest.param(0xFFFFFFFF, 0xFFFFFFFF, id="FFmpeg"),
        pytest.param(0xFFFFFFFF, 0xFFFFFFFF - 36, id="largest"),
        pytest.param(0x7FFFFFFF, 0x7FFFFFFF - 36, id="largest signed"),
        pytest.param(8, 0, id="libsndfile"),
        pytest.param(36, 0, id="no samples yet"),
        pytest.param(0, 0, id="zeros"),
        pytest.param(0xFFFFFFFF, 0, id="no data"),
    ],
)
def test_wav_written_without_knowing_its_length(riff_size: int, data_size: int) -> None:
    assert_read(streamed_wav(riff_size, data_size), tone())


def test_wav_of_three_gigabytes_that_is_truncated() -> None:
    with pytest.raises(AudioError, match="is truncated: its header promises 3221225472 bytes of audio, 16000 are there"):
        load_audio(streamed_wav(0xC0000024, 0xC0000000), SAMPLE_RATE)


def test_wav_without_samples_but_with_a_comment() -> None:
    empty = streamed_wav(0, 0)[:44] + b"LIST" + struct.pack("<I", 400) + b"INFO" + bytes(396)
    for riff_size in (len(empty) - 8, len(empty) - 9):
        with pytest.raises(AudioError, match="holds no audio samples"):
            load_audio(empty[:4] + struct.pack("<I", riff_size) + empty[8:], SAMPLE_RATE)


def test_flac_written_without_knowing_its_length() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, tone(), SAMPLE_RATE, format="FLAC")
    content = bytearray(stream.getvalue())
    numbers = int.from_bytes(content[18:26], "big")  # of STREAMINFO; the last 36 bits count the samples
    assert numbers & (1 << 36) - 1 == len(tone())
    content[18:26] = (numbers >> 36 << 36).to_bytes(8, "big")
    assert_read(bytes(content), tone())


@pytest.mark.parametrize(("format", "codec", "rate"), [("adts", "aac", 16000), ("mpegts", "aac", 48000), ("ac3", "ac3", 48000)])
def test_formats_without_a_length(tmp_path: Path, format: str, codec: str, rate: int) -> None:
    """Silence takes few bytes: judged by its first frames, the rest would be much longer than it is."""
    path = tmp_path / "pause"
    noise = 0.2 * np.random.default_rng(0).standard_normal(3 * rate)
    write_m4a(path, np.concatenate([np.zeros(3 * rate), noise]), rate, format=format, codec=codec)
    n_samples = len(load_audio(path, rate))
    assert n_samples == pytest.approx(6 * rate, abs=0.2 * rate)
    assert sum(map(len, stream_audio(path, rate))) == n_samples
    assert probe_audio(path).n_samples == n_samples


class FailingDisk(io.BytesIO):
    """A file of which a part cannot be read."""

    def __init__(self, content: bytes, first: float, last: float) -> None:
        super().__init__(content)
        self.bad = range(int(first * len(content)), int(last * len(content)))

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        content = super().read(size)
        if start < self.bad.stop and start + len(content) > self.bad.start:
            raise OSError(errno.EIO, "Input/output error")
        return content


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "m4a", "aac"])
@pytest.mark.parametrize(("first", "last"), [(0.0, 0.01), (0.4, 0.6), (0.9, 1.0)])
def test_reads_that_fail_are_no_end_of_the_file(
    tmp_path: Path, suffix: str, first: float, last: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"noise.{suffix}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE)
    if suffix in ("m4a", "aac"):
        write_m4a(path, noise, SAMPLE_RATE, format="ipod" if suffix == "m4a" else "adts")
    else:
        opus = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
        soundfile.write(path, noise, SAMPLE_RATE, **opus)
    readers: tuple[Callable[[FailingDisk], object], ...] = (
        lambda file: load_audio(file, SAMPLE_RATE),
        lambda file: list(stream_audio(file, SAMPLE_RATE, 1.0)),
    )
    for read in readers:
        with pytest.raises(AudioError, match="audio bytes: cannot be read: Input/output error"):
            read(FailingDisk(path.read_bytes(), first, last))
    assert capfd.readouterr().err == ""


def test_file_objects_that_cannot_be_read(tone_wav: Path) -> None:
    with tone_wav.open(encoding="latin-1") as file, pytest.raises(AudioError, match=r"tone\.wav: is open as text.*'rb'"):
        load_audio(file, SAMPLE_RATE)  # type: ignore[arg-type]
    with tone_wav.open("rb") as closed:
        pass
    with pytest.raises(AudioError, match=r"tone\.wav: cannot be read: .*closed file"):
        load_audio(closed, SAMPLE_RATE)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = 0.3 * np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE)
    soundfile.write(path, noise.clip(-1, 1), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(AudioError, match=f"cut.{suffix}: .*(truncated|no audio)"):
        load_audio(path, SAMPLE_RATE)


@pytest.mark.parametrize("content", [b"just some words\n" * 200, b"#EXTM3U\nhttp://localhost/secret\n", bytes(range(256)) * 40])
def test_file_that_is_no_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"text\.wav: .*no audio"):
        load_audio(path, SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"text\.wav"):
        probe_audio(path)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("https://example.org/talk.mp3", "https://example.org/talk.mp3"),
        (Path("https://example.org/talk.mp3"), "https://example.org/talk.mp3"),
        (Path("folder/of a table", "s3://bucket/a.wav"), "s3://bucket/a.wav"),
        (Path("file:///home/a.wav"), "file:///home/a.wav"),
    ],
)
def test_addresses_are_no_files(given: str | Path, address: str) -> None:
    """A Path keeps one of their slashes; the error shows all."""
    with pytest.raises(AudioError, match=f"^{re.escape(address)}: is an address, expected a file; download it first"):
        load_audio(given, SAMPLE_RATE)


def test_an_asf_that_ends_between_two_packets(tmp_path: Path) -> None:
    """Its header says how many there are; none of those that are there is damaged."""
    path = tmp_path / "a.wma"
    write_m4a(path, tone(6.0), SAMPLE_RATE, format="asf", codec="libmp3lame")
    whole = path.read_bytes()
    first = int.from_bytes(whole[16:24], "little") + 50
    found = whole.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    packet = int.from_bytes(whole[found + 92 : found + 96], "little")
    assert (len(whole) - first) // packet > 3
    path.write_bytes(whole[: first + 2 * packet])
    losses: list[str] = []
    for read in (load_audio, lambda path, _: probe_audio(path)):
        with pytest.raises(AudioError, match=r"a\.wma: is truncated: its header promises \d+ bytes, \d+ are there"):
            read(path, SAMPLE_RATE)
    assert 0 < len(load_audio(path, SAMPLE_RATE, lose=losses.append)) < 5 * SAMPLE_RATE
    assert [loss.partition(":")[0] for loss in losses] == ["is truncated"]
    broadcast = bytearray(whole[: first + 2 * packet])  # whose header could say nothing
    broadcast[found + 88] |= 1
    path.write_bytes(broadcast)
    assert len(load_audio(path, SAMPLE_RATE)) < 5 * SAMPLE_RATE


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    path = tmp_path / "nan.wav"
    waveform = tone()
    waveform[100:105] = value
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav: 5 of 8000 samples are NaN or infinite"):
        load_audio(path, SAMPLE_RATE)
    with pytest.raises(AudioError, match="my array: 5 of 8000"):
        check_waveform(waveform, "my array")


def test_one_sample_and_silence_are_legal(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), SAMPLE_RATE)
    np.testing.assert_array_equal(load_audio(tmp_path / "one.wav", SAMPLE_RATE), np.array([0.5], np.float32))
    soundfile.write(tmp_path / "silent.wav", np.zeros(1600), SAMPLE_RATE)
    assert not load_audio(tmp_path / "silent.wav", SAMPLE_RATE).any()


def sparse_wav(path: Path, hours: float, *, present_share: float) -> None:
    n_bytes = int(hours * 3600 * SAMPLE_RATE * 2)
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + n_bytes, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", n_bytes
    )
    with open(path, "wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + int(n_bytes * present_share) // 2 * 2)


def test_ten_hours_are_read_by_parts(tmp_path: Path) -> None:
    path = tmp_path / "day.wav"
    sparse_wav(path, 10.0, present_share=1.0)
    assert probe_audio(path).duration_s == 36000
    assert len(load_audio(path, SAMPLE_RATE, offset_s=35999.0)) == SAMPLE_RATE
    assert len(next(stream_audio(path, SAMPLE_RATE, block_s=2.0))) == 2 * SAMPLE_RATE


def test_header_that_promises_ten_hours(tmp_path: Path) -> None:
    path = tmp_path / "lie.wav"
    sparse_wav(path, 10.0, present_share=0.00001)
    for read in (
        lambda: load_audio(path, SAMPLE_RATE),
        lambda: probe_audio(path),
        lambda: list(stream_audio(path, SAMPLE_RATE)),
    ):
        with pytest.raises(AudioError, match="is truncated: its header promises 1152000000 bytes"):
            read()


@pytest.mark.parametrize("rate", [1, 10_000_000])
def test_sample_rate_that_cannot_be(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "rate.wav"
    soundfile.write(path, tone(), rate)
    with pytest.raises(AudioError, match=f"sample rate of {rate} Hz"):
        load_audio(path, SAMPLE_RATE)


def test_rates_without_common_divisor_take_little_memory() -> None:
    resampled = resample(tone(1.0, sample_rate=44101), 44101, SAMPLE_RATE)
    assert len(resampled) == pytest.approx(SAMPLE_RATE, abs=2)
    assert similarity(resampled, tone(1.0)) > 0.999


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("block_s", [0.1, 1.0, 100.0])
def test_stream_equals_whole_file(tmp_path: Path, rate: int, block_s: float) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(int(5.3 * rate)), rate, subtype="FLOAT")
    whole = load_audio(path, SAMPLE_RATE)
    blocks = list(stream_audio(path, SAMPLE_RATE, block_s))
    assert block_s > 5 or len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_stream_of_m4a(tmp_path: Path) -> None:
    path = tmp_path / "tone.m4a"
    write_m4a(path, tone(4.0, sample_rate=44100), 44100)
    np.testing.assert_allclose(np.concatenate(list(stream_audio(path, SAMPLE_RATE))), load_audio(path, SAMPLE_RATE), atol=1e-6)
