"""Sound in containers: where it lies in time by their packets, and damage that demuxers and decoders pass over in silence."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from conftest import SAMPLE_RATE, spoken

from asr.audio import load_audio, probe_audio, stream_audio
from asr.errors import AudioError
from asr.formats.packets import PacketLog

RECORDINGS = Path(__file__).parent / "recordings"
LONG = np.concatenate([0.5 * spoken(2.0, seed) for seed in range(4)])
GAP = 3.0


def frames(waveform: np.ndarray, context: av.AudioCodecContext) -> Iterator[av.AudioFrame | None]:
    """Yield what an encoder takes, to the end."""
    resampler = av.AudioResampler(context.format, context.layout, context.rate, context.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), "flt", "mono")
    frame.rate, frame.pts = SAMPLE_RATE, 0
    yield from (*resampler.resample(frame), *resampler.resample(None), None)


def muxed(
    format: str,
    codec: str,
    waveform: np.ndarray = LONG,
    *,
    late_s: float = 0.0,
    gap_at: float | None = None,
    rate: int = SAMPLE_RATE,
) -> bytes:
    """Return a file whose time stamps begin late, or leave a gap of GAP seconds from a time on (s)."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=format) as container:
        track: Any = container.add_stream(codec, rate=rate, layout="mono")
        for frame in frames(waveform, track.codec_context):
            for packet in track.encode(frame):
                assert packet.pts is not None
                stamp_s = float(packet.pts * packet.time_base)
                moved_s = late_s + (GAP if gap_at is not None and stamp_s >= gap_at else 0.0)
                packet.pts += round(Fraction(moved_s) / packet.time_base)
                packet.dts = packet.pts
                container.mux(packet)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    """Read a file; every way of reading gives the same."""
    waveform = load_audio(content, SAMPLE_RATE)
    np.testing.assert_allclose(np.concatenate(list(stream_audio(content, SAMPLE_RATE, 0.3))), waveform, atol=1e-5)
    assert probe_audio(content).duration_s == pytest.approx(len(waveform) / SAMPLE_RATE, abs=0.05)
    return waveform


def assert_at(waveform: np.ndarray, voice: np.ndarray, start_s: float) -> None:
    """Check that a voice is heard at a time."""
    size = len(waveform) + len(voice)
    product = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(voice, size).conj(), size)
    assert int(product.argmax()) / SAMPLE_RATE == pytest.approx(start_s, abs=0.1)


@pytest.mark.parametrize(("format", "codec"), [("matroska", "aac"), ("matroska", "flac"), ("webm", "libopus"), ("flv", "aac")])
def test_stamps_may_begin_late(format: str, codec: str) -> None:
    assert len(read(muxed(format, codec, late_s=5.0))) / SAMPLE_RATE == pytest.approx(8.0, abs=0.15)


GAPPED = [("matroska", "aac"), ("matroska", "flac"), ("webm", "libopus"), ("avi", "aac"), ("mpegts", "aac"), ("mpegts", "mp2")]


@pytest.mark.parametrize(("format", "codec"), GAPPED)
def test_gaps_of_stamps_in_a_whole_file_are_silence(format: str, codec: str) -> None:
    waveform = read(muxed(format, codec, gap_at=4.0))
    assert len(waveform) / SAMPLE_RATE == pytest.approx(8.0 + GAP, abs=0.25)
    assert_at(waveform, LONG[: 3 * SAMPLE_RATE], 0.0)
    assert_at(waveform, LONG[-3 * SAMPLE_RATE :], 5.0 + GAP)


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_long_chunks_of_an_avi_leave_no_gaps(codec: str) -> None:
    content = bytearray(muxed("avi", codec))
    length = len(read(bytes(content)))
    place = content.index(b"strf") + 8 + 12
    assert struct.unpack_from("<H", content, place)[0] > 64
    content[place : place + 2] = struct.pack("<H", 64)  # the size of a block, which is that of no chunk
    assert len(read(bytes(content))) == length


def test_frames_that_overlap_in_time_are_counted() -> None:
    """As in files that were joined by their packets, whose header says less than there is to hear."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track: Any = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        packets = [packet for frame in frames(LONG, track.codec_context) for packet in track.encode(frame)]
        for number, packet in enumerate(packets):
            packet.pts -= 1023 * min(max(number - 50, 0), 20)
            packet.dts = packet.pts
            container.mux(packet)
    assert len(read(stream.getvalue())) / SAMPLE_RATE == pytest.approx(8.0, abs=0.15)


def test_errors_that_only_a_decoder_has_are_said_in_words() -> None:
    content = muxed("ac3", "ac3", rate=32000)
    middle = len(content) // 2
    with pytest.raises(AudioError, match=r"is corrupt after \d\.\d\d s: a frame cannot be decoded"):
        load_audio(content[:middle] + bytes(4000) + content[middle + 4000 :], SAMPLE_RATE)


DAMAGED = [
    ("mpegts", "aac"),
    ("mpegts", "libopus"),
    ("tta", "tta"),
    ("wv", "wavpack"),
    ("matroska", "flac"),
    ("matroska", "aac"),
    ("webm", "libopus"),
]


@pytest.mark.parametrize(("format", "codec"), DAMAGED)
@pytest.mark.parametrize("damage", ["zeros", "noise", "cut"])
def test_damage_in_the_middle_is_no_silence(format: str, codec: str, damage: str) -> None:
    waveform = np.concatenate([0.5 * spoken(4.0, seed) for seed in range(6)])
    content = muxed(format, codec, waveform)
    assert len(read(content)) / SAMPLE_RATE == pytest.approx(24.0, abs=0.15)
    start, size = len(content) * 2 // 5, len(content) // 8 | 1  # no whole packets of a transport stream: these leave no trace
    hole = {"zeros": bytes(size), "noise": np.random.default_rng(0).bytes(size), "cut": b""}[damage]
    damaged = content[:start] + hole + content[start + size :]
    for take in (lambda: load_audio(damaged, SAMPLE_RATE), lambda: list(stream_audio(damaged, SAMPLE_RATE))):
        with pytest.raises(AudioError, match=r"audio bytes: is (corrupt|truncated)"):
            take()
    losses: list[str] = []
    rest = load_audio(damaged, SAMPLE_RATE, lose=losses.append)
    assert losses
    assert_at(rest[: 8 * SAMPLE_RATE], waveform[: 4 * SAMPLE_RATE], 0.0)


@pytest.mark.parametrize(("format", "codec"), [("tta", "tta"), ("wv", "wavpack"), ("matroska", "flac")])
def test_bytes_that_belie_their_checksum_are_damage(format: str, codec: str) -> None:
    content = muxed(format, codec)
    start = len(content) * 2 // 5
    noise = np.random.default_rng(0).bytes(100)
    with pytest.raises(AudioError, match="audio bytes: is corrupt after"):
        load_audio(content[:start] + noise + content[start + len(noise) :], SAMPLE_RATE)


def test_packets_that_the_decoder_takes_for_another_setup_are_no_sound() -> None:
    path = RECORDINGS / "setups.mkv"
    with pytest.raises(AudioError, match=r"setups\.mkv: is corrupt after .* s: samples as large as .* are no sound"):
        load_audio(path, SAMPLE_RATE)
    losses: list[str] = []
    waveform = load_audio(path, SAMPLE_RATE, lose=losses.append)
    assert np.abs(waveform).max() < 10
    assert len(losses) == 1


def test_transport_streams_of_cameras_may_have_gaps() -> None:
    """Four bytes of time stand before each packet."""
    content = muxed("mpegts", "aac", gap_at=4.0)
    expected = read(content)
    packets = [bytes(4) + content[start : start + 188] for start in range(0, len(content), 188)]
    np.testing.assert_array_equal(read(b"".join(packets)), expected)


def test_a_hole_of_any_size_does_not_end_a_transport_stream() -> None:
    content = muxed("mpegts", "aac", np.concatenate([LONG] * 3))
    middle = len(content) // 2
    losses: list[str] = []
    damaged = content[:middle] + bytes(100_000) + content[middle:]
    assert len(load_audio(damaged, SAMPLE_RATE, lose=losses.append)) / SAMPLE_RATE == pytest.approx(24.0, abs=0.5)


def heard(places: list[tuple[float, int]]) -> list[str]:
    """Return what is missing where packets of 100 bytes and 0.1 s are at such times (s) and places (byte)."""
    log, stream = PacketLog(in_order=True), SimpleNamespace(index=0, time_base=Fraction(1, 1000))
    packets = [
        SimpleNamespace(pts=round(1000 * s), dts=None, duration=100, size=100, pos=at, stream=stream) for s, at in places
    ]
    return [missing for packet in packets if (missing := log.add(packet, is_sound=True))]


def test_a_jump_of_stamps_is_damage_where_bytes_were_passed_over() -> None:
    before = [(0.1 * n, 110 * n) for n in range(50)]
    assert not heard(before + [(8 + 0.1 * n, 110 * (50 + n)) for n in range(50)])
    assert not heard(before + [(5 + 0.1 * n, 110 * (80 + n)) for n in range(50)])  # no sound is missing
    assert not heard(before + [(8 + 0.1 * n, 110 * 50 + 600 + 110 * n) for n in range(50)])  # too little for three seconds
    (missing,) = heard(before + [(8 + 0.1 * n, 110 * (80 + n)) for n in range(50)])
    assert missing == "3310 bytes hold nothing that can be read, where time stamps jump by 3.00 s"
    together = [(0.1 * n, 1000 * (n // 5)) for n in range(50)]  # as in an asf, where the hole is met a little later
    assert not heard([*together, *((5.6 + 0.1 * n, 10000 + 1000 * (n // 5)) for n in range(20))])
    (missing,) = heard([*together, (8.0, 10000), (8.1, 10000), (8.2, 20000)])
    assert missing == "9900 bytes hold nothing that can be read, where time stamps jump by 3.00 s"
