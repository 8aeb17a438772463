"""From audio of any length to transcripts, from Python."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import spoken

import asr
from asr.audio import load_audio, stream_audio
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.waveforms import decode_waveforms
from asr.errors import AudioError, ConfigError
from asr.package.load import read_package, with_decoding
from asr.transcription.recogniser import _SETTING, Recogniser, _is_one
from asr.transcription.recording import Recording
from asr.transcription.transcript import Segment, Transcript
from asr.transcription.windows import Window

RATE = 16000


@pytest.fixture(scope="module")
def recogniser(package: Path) -> Recogniser:
    return asr.load_model(package)


@pytest.fixture(scope="module")
def with_words(package: Path) -> Recogniser:
    return asr.load_model(package, words=True)


@pytest.fixture(scope="module")
def plain(package: Path) -> Recogniser:
    """Reads all audio, speech or not."""
    return asr.load_model(package, vad=False)


class TestStream:
    @pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
    def test_stream_equals_the_whole(self, rate: int, tmp_path: Path) -> None:
        audio = np.stack([spoken(7.3, seed=1), spoken(7.3, seed=2)], axis=1)
        soundfile.write(tmp_path / "a.wav", audio, rate)
        whole = load_audio(tmp_path / "a.wav", RATE)
        streamed = np.concatenate(list(stream_audio(tmp_path / "a.wav", RATE, block_s=1.7)))
        assert streamed.shape == whole.shape
        np.testing.assert_allclose(streamed, whole, atol=1e-4)


class TestRecogniser:
    def test_segments_of_long_audio(self, recogniser: Recogniser, tmp_path: Path) -> None:
        silence = np.zeros(3 * RATE, np.float32)
        soundfile.write(tmp_path / "long.flac", np.concatenate([spoken(5.0), silence, spoken(40.0), silence]), RATE)
        transcript = recogniser.transcribe(tmp_path / "long.flac")
        assert transcript.duration_s == pytest.approx(51.0)
        assert transcript.text == " ".join(segment.text for segment in transcript.segments)
        first, second, third = transcript.segments
        assert (first.start_s, first.end_s, second.start_s) == pytest.approx((0.0, 5.3, 7.8), abs=0.3)
        assert second.end_s == pytest.approx(third.start_s, abs=0.1)
        assert third.end_s == pytest.approx(48.3, abs=0.5)

    def test_silence_and_noise_are_not_read(
        self, recogniser: Recogniser, plain: Recogniser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise = (0.1 * np.random.default_rng(0).standard_normal(20 * RATE)).astype(np.float32)
        assert plain.transcribe(noise, RATE).text
        monkeypatch.setattr("asr.transcription.recogniser.decode_waveforms", lambda *_, **__: [])
        transcript = recogniser.transcribe(noise, RATE)  # a window without hypothesis would be an error
        assert (transcript.segments, transcript.duration_s) == ((), 20.0)

    def test_all_audio_is_read_without_the_detector(self, plain: Recogniser) -> None:
        transcript = plain.transcribe(spoken(70.0), RATE)
        starts = [segment.start_s for segment in transcript.segments]
        ends = [segment.end_s for segment in transcript.segments]
        assert len(starts) == 3
        assert (starts[0], ends[:-1], ends[-1]) == (0.0, starts[1:], 70.0)
        assert all(not segment.words for segment in transcript.segments)

    def test_text_is_the_same_whatever_the_batch(self, package: Path, tmp_path: Path) -> None:
        files = []
        for index, seconds in enumerate([2.0, 65.0, 0.5, 12.0, 31.0]):
            files.append(tmp_path / f"{index}.wav")
            soundfile.write(files[-1], spoken(seconds, seed=index), RATE)
        results = []
        for batch_s in (1.0, 60.0, 1000.0):
            recogniser = Recogniser(read_package(package), batch_s=batch_s)
            results.append(list(recogniser.transcribe_many(files)))
        assert results[0] == results[1] == results[2]
        assert all(isinstance(result, Transcript) and result.text for result in results[0])
        assert results[0] == [recogniser.transcribe(file) for file in files]

    def test_every_kind_of_source_reads_the_same(self, recogniser: Recogniser, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, spoken(4.0), RATE, subtype="FLOAT")
        text = recogniser.transcribe(path).text
        assert text
        assert recogniser.transcribe(str(path)).text == text
        assert recogniser.transcribe(path.read_bytes()).text == text
        assert recogniser.transcribe(io.BytesIO(path.read_bytes())).text == text
        assert recogniser.transcribe(spoken(4.0), RATE).text == text
        assert recogniser.transcribe(np.stack([spoken(4.0)] * 2, axis=1), RATE).text == text

    def test_arrays_that_bring_their_rate(self, recogniser: Recogniser, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", spoken(2.0), RATE, subtype="FLOAT")
        expected = recogniser.transcribe(spoken(2.0), RATE)
        assert expected.text
        samples = torch.from_numpy(spoken(2.0)).requires_grad_()
        assert recogniser.transcribe((RATE, spoken(2.0))) == expected
        assert recogniser.transcribe((samples[None], RATE)) == expected
        assert recogniser.transcribe({"array": spoken(2.0), "sampling_rate": RATE}) == expected
        transcript = recogniser.transcribe({"path": str(tmp_path / "a.wav"), "bytes": None})
        assert (transcript.file, transcript.text) == (str(tmp_path / "a.wav"), expected.text)

    @pytest.mark.parametrize(
        "one",
        [
            "talk.mp3",
            Path("talk.mp3"),
            b"RIFF",
            {"array": [0.0], "sampling_rate": RATE},
            io.BytesIO(b"RIFF\nWAVE\n"),
            np.zeros(RATE, np.float32),
            torch.zeros(RATE),
            np.float32(0),
            [0.0, 0.5],
            [0, 1],
            (RATE, np.zeros(RATE)),
        ],
    )
    def test_one_recording_is_not_several(self, recogniser: Recogniser, one: Any) -> None:
        with pytest.raises(ConfigError, match=r"expected several recordings, got one .*; put it into a list"):
            list(recogniser.transcribe_many(one))

    @pytest.mark.parametrize("several", [np.array(["one.wav", "two.wav"]), np.array([np.zeros(RATE), np.zeros(9)], object)])
    def test_arrays_of_recordings_are_several(self, recogniser: Recogniser, several: Any) -> None:
        assert not _is_one(several)

    def test_a_number_is_no_recording(self, recogniser: Recogniser) -> None:
        with pytest.raises(AudioError, match=r"array: expected an array .*, got int"):
            recogniser.transcribe(5)  # type: ignore[arg-type]

    def test_why_there_is_no_text(self, recogniser: Recogniser) -> None:
        def notices(waveform: np.ndarray) -> tuple[str, ...]:
            heard: list[str] = []
            assert not list(recogniser.stream(waveform, RATE, on_notice=heard.append))
            transcript = recogniser.transcribe(waveform, RATE)
            assert transcript.text == ""
            assert transcript.notices == tuple(heard)
            return transcript.notices

        assert notices(np.zeros(RATE, np.float32)) == ("holds nothing but digital silence, or what is too faint for 16 bits",)
        hum = (0.1 * np.sin(np.arange(2 * RATE) * (2 * np.pi * 50 / RATE))).astype(np.float32)
        (why,) = notices(hum)
        assert why == "no speech was found in its 2.0 s; --no-vad (vad=False) recognises all of it"

    def test_channels_that_cancel(self, recogniser: Recogniser) -> None:
        speech = spoken(3.0)
        expected = recogniser.transcribe(speech, RATE)
        transcript = recogniser.transcribe(np.stack([speech, -speech]), RATE)
        assert transcript.text == expected.text != ""
        assert "cancel each other" in transcript.notices[0]
        assert not expected.notices

    def test_arrays_need_a_rate(self, recogniser: Recogniser) -> None:
        with pytest.raises(AudioError, match="array: comes without a sample rate"):
            recogniser.transcribe(spoken(1.0))

    @pytest.mark.parametrize("rate", [0, -16000, 0.5, 44100.5, float("nan"), "16000", 10**9])
    def test_rates_that_cannot_be(self, recogniser: Recogniser, rate: Any) -> None:
        with pytest.raises(AudioError, match=r"array: has a sample rate of .* Hz, expected a whole number from 1000"):
            recogniser.transcribe(spoken(0.1), rate)

    def test_whole_rates_of_other_types(self, recogniser: Recogniser) -> None:
        rates: list[Any] = [np.int64(22050), np.float32(22050.0), 22050.0]
        expected = recogniser.transcribe(spoken(1.0), 22050)
        assert all(recogniser.transcribe(spoken(1.0), rate) == expected for rate in rates)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_of_a_file(self, recogniser: Recogniser, tmp_path: Path, kind: Callable[[bytes], Any]) -> None:
        soundfile.write(tmp_path / "a.wav", spoken(2.0), RATE)
        transcript = recogniser.transcribe(kind((tmp_path / "a.wav").read_bytes()))
        assert transcript.segments == recogniser.transcribe(tmp_path / "a.wav").segments
        assert transcript.file == "bytes"
        with pytest.raises(AudioError, match="bytes: is empty"):
            recogniser.transcribe(kind(b""))

    @pytest.mark.parametrize("batch_s", [0, -1.0, float("inf"), float("nan")])
    def test_batches_of_no_length(self, package: Path, batch_s: float) -> None:
        with pytest.raises(ConfigError, match=f"batch_s={batch_s:g}: expected a number of seconds above 0"):
            Recogniser(read_package(package), batch_s=batch_s)

    def test_bad_audio_does_not_stop_the_rest(self, recogniser: Recogniser, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "good.wav", spoken(2.0), RATE)
        broken = spoken(40.0)
        broken[-10] = np.nan  # found only after the first window was cut
        soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
        files = [tmp_path / name for name in ("absent.wav", "good.wav", "nan.wav", "good.wav", "none.wav")]
        results = list(recogniser.transcribe_many(files))
        assert [isinstance(result, AudioError) for result in results] == [True, False, True, False, True]
        assert "absent.wav" in str(results[0])
        assert "nan.wav" in str(results[2])
        assert results[1] == results[3]

    @pytest.mark.parametrize("n_samples", [1, 100, 16000])
    def test_one_sample_and_silence(self, recogniser: Recogniser, plain: Recogniser, n_samples: int) -> None:
        for either in (recogniser, plain):
            transcript = either.transcribe(np.zeros(n_samples, np.float32), RATE)
            assert transcript.duration_s == n_samples / RATE

    def test_progress_adds_up(self, recogniser: Recogniser) -> None:
        seconds: list[float] = []
        silence = np.zeros(20 * RATE, np.float32)
        sources = [np.concatenate([spoken(150.0), silence]), silence, spoken(3.0)]
        list(recogniser.transcribe_many(sources, RATE, on_progress=seconds.append))
        assert len(seconds) > 3
        assert min(seconds) >= 0
        assert sum(seconds) == pytest.approx(193.0)

    def test_segments_come_while_the_rest_is_read(self, recogniser: Recogniser, tmp_path: Path) -> None:
        path = tmp_path / "long.wav"
        soundfile.write(path, spoken(300.0), RATE)
        with open(path, "rb") as file:
            segments = recogniser.stream(file)
            first = next(segments)
            assert file.tell() < path.stat().st_size / 2
            rest = list(segments)
        assert (first, *rest) == recogniser.transcribe(path).segments
        assert len(rest) > 5

    def test_a_stream_that_breaks_gives_what_came_before(self, recogniser: Recogniser, tmp_path: Path) -> None:
        broken = spoken(100.0)
        broken[-10] = np.nan
        soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
        seen: list[Segment] = []
        with pytest.raises(AudioError, match=r"nan\.wav"):
            seen.extend(recogniser.stream(tmp_path / "nan.wav"))
        assert len(seen) >= 2

    def test_a_stream_may_be_left(self, recogniser: Recogniser) -> None:
        threads = torch.get_num_threads()
        segments = recogniser.stream(spoken(150.0), RATE)
        next(segments)
        segments.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("recogniser")]
        assert torch.get_num_threads() == threads

    def test_one_channel(self, package: Path, recogniser: Recogniser, tmp_path: Path) -> None:
        channels = np.stack([spoken(4.0), spoken(4.0, seed=1)], axis=1)
        path = tmp_path / "two.wav"
        soundfile.write(path, channels, RATE, subtype="FLOAT")
        texts = set()
        for channel in (0, 1):
            one = asr.load_model(package, channel=channel)
            texts.add(one.transcribe(path).text)
            assert one.transcribe(path).text == recogniser.transcribe(channels[:, channel], RATE).text
            assert one.transcribe(channels, RATE).text == one.transcribe(path).text
            assert one.transcribe(path).channel == channel
        assert len({*texts, recogniser.transcribe(path).text}) == 3
        assert recogniser.transcribe(path).channel is None
        absent = asr.load_model(package, channel=2)
        with pytest.raises(AudioError, match=r"two\.wav: has no channel 2; it has channels 0 to 1"):
            absent.transcribe(path)

    def test_threads_share_one(self, package: Path) -> None:
        beam = with_decoding(read_package(package), {"kind": "beam", "beam": 5})
        recogniser = Recogniser(beam, words=True, batch_s=5.0)  # two batches a call
        pause = np.zeros(2 * RATE, np.float32)
        waveforms = [np.concatenate([spoken(6.0, seed), pause, spoken(6.0, seed + 1)]) for seed in range(4)]
        expected = [recogniser.transcribe(waveform, RATE) for waveform in waveforms]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda index: recogniser.transcribe(waveforms[index % 4], RATE), range(8)))
        assert [transcript.text for transcript in found] == [transcript.text for transcript in expected] * 2
        assert len({transcript.text for transcript in expected}) == 4

    def test_calls_at_once_leave_the_number_of_threads(self, recogniser: Recogniser) -> None:
        """A call from a new thread begins while another is under way, and ends after it."""

        def of_a_new_thread() -> int:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(torch.get_num_threads).result()

        before = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            one, other = (recogniser.stream(spoken(70.0), RATE) for _ in range(2))
            next(one)
            with _SETTING:  # a worker that begins sets the number, and at once sets it back
                assert of_a_new_thread() == 3
            with ThreadPoolExecutor(1) as pool:
                pool.submit(next, other).result()
                one.close()
                pool.submit(other.close).result()
                assert pool.submit(torch.get_num_threads).result() == 3
            assert (torch.get_num_threads(), of_a_new_thread()) == (3, 3)
        finally:
            torch.set_num_threads(before)

    def test_workers_share_the_threads(self, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: set[int] = set()

        def spy(*arguments: Any, **options: Any) -> list[Hypothesis]:
            seen.add(torch.get_num_threads())
            return decode_waveforms(*arguments, **options)

        monkeypatch.setattr("asr.transcription.recogniser.decode_waveforms", spy)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(9)
            recogniser.transcribe(spoken(70.0), RATE)
        finally:
            torch.set_num_threads(before)
        assert seen == {2}

    @pytest.mark.parametrize("n_threads", [1, 2, 5])
    def test_cores_change_nothing(self, n_threads: int, recogniser: Recogniser) -> None:
        expected = [transcript.text for transcript in results(recogniser, [spoken(100.0), spoken(3.0, 1)])]
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(n_threads)
            found = results(recogniser, [spoken(100.0), spoken(3.0, 1)])
            assert torch.get_num_threads() == n_threads
        finally:
            torch.set_num_threads(before)
        assert [transcript.text for transcript in found] == expected

    def test_words_of_overlapping_windows_are_joined(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A network that reads a true word each second, each window on its own, and breaks those at the edges."""
        waveform = np.arange(100 * RATE, dtype=np.float32) / 1e6

        def read(model: object, decoder: object, waveforms: list[np.ndarray], *, words: object) -> list[Hypothesis]:
            assert words is not None
            return [reading(waveform) for waveform in waveforms]

        def reading(waveform: np.ndarray) -> Hypothesis:
            start = round(float(waveform[0]) * 1e6) / RATE
            length = len(waveform) / RATE
            spans = [(second, second + 0.2 - start, second + 0.9 - start) for second in range(100)]
            words = [
                Word(f"w{second}" if begin >= 0 and end <= length else "broken", max(begin, 0.0), min(end, length), 0.5)
                for second, begin, end in spans
                if end > 0 and begin < length
            ]
            return Hypothesis(" ".join(word.text for word in words), (), (), 0.0, 0.0, 0.0, words=tuple(words))

        monkeypatch.setattr("asr.transcription.recogniser.decode_waveforms", read)
        for words in (False, True):
            recogniser = asr.load_model(package, vad=False, words=words)
            transcript = recogniser.transcribe(waveform, RATE)
            assert transcript.text.split() == [f"w{second}" for second in range(100)]
            assert len(transcript.segments) == 4
            times = [(word.start_s, word.end_s) for segment in transcript.segments for word in segment.words]
            expected = [(second + 0.2, second + 0.9) for second in range(100)] if words else []
            assert np.allclose(times, expected, atol=0.001)

    def test_a_held_segment_is_not_lost_when_nothing_follows(self, plain: Recogniser) -> None:
        recording = Recording("a")
        window = Window(0, np.zeros(RATE, np.float32), goes_on=True)
        hypothesis = Hypothesis("a", (), (), 0.0, 0.0, 0.0, words=(Word("a", 0.0, 1.0, 0.5),))
        assert list(plain._joined(recording, window, hypothesis)) == []
        later = Window(10 * RATE, np.zeros(RATE, np.float32))
        assert [segment.start_s for segment in plain._joined(recording, later, hypothesis)] == [0.0, 10.0]
        assert list(plain._joined(recording, window, hypothesis)) == []
        assert [segment.text for segment in plain._joined(recording, None, None)] == ["a"]


def results(recogniser: Recogniser, waveforms: list[np.ndarray]) -> list[Transcript]:
    found = list(recogniser.transcribe_many(waveforms, RATE))
    assert all(isinstance(result, Transcript) for result in found)
    return [result for result in found if isinstance(result, Transcript)]


class TestWords:
    def test_words_are_those_of_the_text_in_order(self, with_words: Recogniser) -> None:
        transcript = with_words.transcribe(spoken(70.0), RATE)
        assert len(transcript.segments) >= 3
        for segment in transcript.segments:
            assert [word.text for word in segment.words] == segment.text.split()
            times = [time for word in segment.words for time in (word.start_s, word.end_s)]
            assert times == sorted(times)
            assert segment.start_s <= times[0]
            assert times[-1] <= segment.end_s
            assert segment.confidence == pytest.approx(np.mean([word.confidence for word in segment.words]))
            assert all(0 <= word.confidence <= 1 for word in segment.words)

    def test_times_count_from_the_start_of_the_recording(self, with_words: Recogniser) -> None:
        waveform = spoken(70.0)
        transcript = with_words.transcribe(waveform, RATE)
        last = transcript.segments[-1]
        start = round(last.start_s * RATE)
        (alone,) = with_words.transcribe(waveform[start:], RATE).segments
        assert alone.text == last.text
        for word, other in zip(last.words, alone.words, strict=True):
            assert (word.start_s, word.end_s) == pytest.approx((other.start_s + last.start_s, other.end_s + last.start_s))
            assert word.confidence == pytest.approx(other.confidence)

    def test_words_are_found_only_where_asked_for(self, recogniser: Recogniser, with_words: Recogniser) -> None:
        plain = recogniser.transcribe(spoken(5.0), RATE)
        assert all(segment.words == () and segment.confidence is None for segment in plain.segments)
        assert with_words.transcribe(spoken(5.0), RATE).text == plain.text

    def test_words_are_the_same_whatever_the_batch(self, package: Path) -> None:
        waveforms = [spoken(seconds, seed=index) for index, seconds in enumerate([2.0, 7.0, 0.5])]
        one, all_together = (Recogniser(read_package(package), batch_s=batch_s, words=True) for batch_s in (0.1, 60.0))
        pairs = zip(one.transcribe_many(waveforms, RATE), all_together.transcribe_many(waveforms, RATE), strict=True)
        for alone, together in pairs:
            assert isinstance(alone, Transcript)
            assert isinstance(together, Transcript)
            for word, other in zip(alone.segments[0].words, together.segments[0].words, strict=True):
                assert (word.text, word.start_s, word.end_s) == (other.text, other.start_s, other.end_s)
                assert word.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_package_imports_lazily() -> None:
    assert asr.Recogniser is Recogniser
    with pytest.raises(AttributeError, match="nothing"):
        asr.nothing  # noqa: B018 - the access is the test
