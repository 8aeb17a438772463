"""Cutting recordings into windows: all speech, little else, never too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from conftest import SAMPLE_RATE, spoken
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AudioError, ConfigError
from asr.transcription.speech import FRAME, SpeechDetector
from asr.transcription.windows import Planner, Window, WindowSpan, cut_windows

SECOND = SAMPLE_RATE / FRAME  # frames
SHORTEST_WINDOW_S = 9.0


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


def blocks_of(waveform: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]


def cut(waveform: np.ndarray, detector: SpeechDetector | None, size: int = 10**9, rate: int = SAMPLE_RATE) -> list[Window]:
    blocks = blocks_of(waveform.astype(np.float32), size)
    return list(cut_windows(blocks, rate, "a.wav", detector=detector, window_s=30.0, earliest_s=10.0))


def plan(speech: Sequence[bool], window_s: float = 30.0, earliest_s: float = 10.0, size: int = 10**9) -> list[WindowSpan]:
    planner = Planner(window_s, earliest_s)
    probabilities = np.where(speech, 0.9, 0.1)
    spans = [span for block in blocks_of(probabilities, size) for span in planner.feed(block)]
    return [*spans, *planner.finish()]


def pattern(*stretches: tuple[float, bool]) -> list[bool]:
    """Frames of so many seconds each with or without speech."""
    return [is_speech for seconds, is_speech in stretches for _ in range(round(seconds * SECOND))]


def seconds(spans: Sequence[WindowSpan]) -> list[tuple[float, float]]:
    return [(round(span.start / SECOND, 1), round(span.end / SECOND, 1)) for span in spans]


# The plan


def test_speech_between_silences() -> None:
    frames = pattern((5, False), (2, True), (5, False), (3, True), (0.5, False), (4, True), (5, False))
    assert seconds(plan(frames)) == [(4.7, 7.3), (11.7, 19.8)]  # 0.3 s around it; a pause of 0.5 s stays inside


def test_a_click_is_no_speech() -> None:
    assert plan(pattern((2, False), (0.06, True), (2, False))) == []
    assert len(plan(pattern((2, False), (0.2, True), (2, False)))) == 1


def test_hysteresis() -> None:
    """A weak frame neither begins speech nor ends it."""
    planner = Planner(30.0, 10.0)
    weak, strong, none = np.full(40, 0.3), np.full(40, 0.9), np.full(40, 0.1)
    assert [*planner.feed(weak), *planner.feed(none)] == []
    (span,) = [*planner.feed(strong), *planner.feed(weak), *planner.feed(none)]
    assert (span.start, span.end) == (80 - 9, 160 + 9)


def test_the_cut_is_made_in_the_longest_late_pause() -> None:
    frames = pattern((5, True), (0.9, False), (9, True), (0.3, False), (5, True), (0.6, False), (20, True))
    first, second = plan(frames)
    assert seconds([first, second]) == [(0.0, 20.4), (20.5, 40.8)]  # in the pause from 20.2 to 20.8, not the longer pause at 5
    assert not first.goes_on
    assert second.shared == 0


def test_an_early_pause_is_better_than_none() -> None:
    assert seconds(plan(pattern((5, True), (0.9, False), (28, True)))) == [(0.0, 5.3), (5.6, 33.9)]


def test_windows_overlap_where_there_is_no_pause() -> None:
    spans = plan(pattern((70, True)))
    assert seconds(spans) == [(0.0, 30.0), (26.0, 56.0), (52.0, 70.0)]
    assert [(span.shared, span.goes_on) for span in spans] == [(0, True), (125, True), (125, False)]


def test_what_was_shared_is_not_read_again_by_itself() -> None:
    (span,) = plan(pattern((30, True), (5, False)))
    assert seconds([span]) == [(0.0, 30.0)]


@given(
    stretches=st.lists(st.tuples(st.floats(0.0, 40.0) | st.floats(0.0, 1.5), st.booleans()), max_size=15),
    window_s=st.floats(SHORTEST_WINDOW_S, 40.0),
    earliest_share=st.floats(0.0, 0.9),
    size=st.integers(1, 2000),
)
def test_windows_hold_all_speech(
    stretches: list[tuple[float, bool]], window_s: float, earliest_share: float, size: int
) -> None:
    frames = np.array(pattern(*stretches), dtype=bool)
    spans = plan(frames.tolist(), window_s, earliest_share * window_s)
    assert spans == plan(frames.tolist(), window_s, earliest_share * window_s, size)
    held = np.zeros(len(frames), bool)
    for span in spans:
        assert 0 <= span.start < span.end <= len(frames)
        assert span.end - span.start <= round(window_s * SECOND)
        held[span.start : span.end] = True
    # No speech is left out but clicks, and no stretch of silence longer than a pause is let in.
    missed, let_in = frames & ~held, held & ~frames
    assert all(length < 3 for length in runs(missed))
    assert all(length <= 31 for length in runs(let_in))
    for before, after in pairwise(spans):
        assert (after.start < before.end) == (after.shared > 0)
        if after.shared:
            assert before.goes_on
            assert after.start + after.shared == before.end


def runs(mask: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


@pytest.mark.parametrize(
    ("window_s", "earliest_s"), [(8.0, 2.0), (30.0, 30.0), (30.0, -1.0), (float("nan"), 1.0), (float("inf"), 1.0)]
)
def test_impossible_windows(window_s: float, earliest_s: float) -> None:
    with pytest.raises(ConfigError, match="window_s"):
        Planner(window_s, earliest_s)


# The audio


@pytest.mark.parametrize("size", [7777, 10**9])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 8000])
def test_windows_are_pieces_of_the_recording(size: int, rate: int, detector: SpeechDetector) -> None:
    silence = np.zeros(3 * SAMPLE_RATE)
    waveform = np.concatenate([silence, spoken(7.0), silence, silence, spoken(9.0, seed=1)])
    if rate != SAMPLE_RATE:
        waveform = waveform[::2]
    first, second = cut(waveform, detector, size, rate)
    for window in (first, second):
        np.testing.assert_array_equal(window.waveform, waveform[window.start : window.end].astype(np.float32))
    times = [time / rate for time in (first.start, first.end, second.start, second.end)]
    # The voice starts and stops up to 0.5 s within the stretches.
    assert times == pytest.approx([2.8, 9.8, 15.8, 25.0], abs=0.6)


def test_without_a_detector_everything_is_read() -> None:
    waveform = np.arange(61 * SAMPLE_RATE) / SAMPLE_RATE
    windows = cut(waveform, None, 12345)
    assert [window.start / SAMPLE_RATE for window in windows] == pytest.approx([0, 26, 52], abs=0.1)
    assert [window.shared / SAMPLE_RATE for window in windows] == [0, 4, 4]
    assert windows[-1].end == len(waveform)
    for window in windows:
        np.testing.assert_array_equal(window.waveform, waveform[window.start : window.end].astype(np.float32))


@pytest.mark.parametrize("noise", [0.0, 1e-4, 0.1])
def test_silence_and_noise_give_no_window(noise: float, detector: SpeechDetector) -> None:
    assert cut(noise * np.random.default_rng(0).standard_normal(40 * SAMPLE_RATE), detector) == []


def test_no_audio_at_all(detector: SpeechDetector) -> None:
    for either in (detector, None):
        with pytest.raises(AudioError, match=r"a\.wav: holds no audio samples"):
            cut(np.zeros(0), either)


def test_memory_is_bounded(detector: SpeechDetector) -> None:
    """Windows come while the recording is being read, and hold on to nothing of it."""
    n_read = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal n_read
        for _ in range(20):
            n_read += 1
            yield spoken(10.0)

    for window in cut_windows(blocks(), SAMPLE_RATE, "a.wav", detector=detector, window_s=30.0, earliest_s=10.0):
        assert n_read * 10.0 - window.end / SAMPLE_RATE < 30.0 + 10.0
        assert window.waveform.base is None
    assert n_read == 20
