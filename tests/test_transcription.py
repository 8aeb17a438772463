"""From audio of any length to transcripts, from Python and from the command line."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.audio import load_audio, stream_audio
from asr.cli import main
from asr.decoding.hypothesis import Word
from asr.errors import AudioError, ConfigError
from asr.package import read_package
from asr.transcription.recogniser import Recogniser
from asr.transcription.transcript import Segment, Transcript
from asr.transcription.windows import cut_windows, quietest
from asr.transcription.writers import output_paths, render

RATE = 16000


@pytest.fixture(scope="module")
def recogniser(package: Path) -> Recogniser:
    return asr.load_model(package)


@pytest.fixture(scope="module")
def with_words(package: Path) -> Recogniser:
    return asr.load_model(package, words=True)


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness and colour change, with a pause each 3 s."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    times = np.arange(n) / RATE
    wave = rng.normal(0, 0.02, n) + 0.2 * np.sin(2 * np.pi * (300 + 200 * np.sin(2 * times)) * times)
    return np.where(times % 3 > 2.6, 0.001, 1.0).astype(np.float32) * wave.astype(np.float32)


def blocks_of(waveform: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]


class TestWindows:
    def test_short_audio_stays_whole(self) -> None:
        waveform = babble(30.0)
        (window,) = cut_windows([waveform], RATE, window_s=30.0, earliest_s=10.0)
        assert window.start == 0
        np.testing.assert_array_equal(window.waveform, waveform)

    @pytest.mark.parametrize("size", [777, 16000, 10**7])
    def test_windows_join_to_the_whole_however_it_is_read(self, size: int) -> None:
        waveform = babble(95.3)
        windows = list(cut_windows(blocks_of(waveform, size), RATE, window_s=30.0, earliest_s=10.0))
        np.testing.assert_array_equal(np.concatenate([window.waveform for window in windows]), waveform)
        expected = list(cut_windows([waveform], RATE, window_s=30.0, earliest_s=10.0))
        assert [window.start for window in windows] == [window.start for window in expected]
        assert all(10.0 <= len(window.waveform) / RATE <= 30.0 for window in windows[:-1])

    def test_cuts_lie_in_the_pause(self) -> None:
        waveform = np.full(50 * RATE, 0.5, np.float32)
        waveform[20 * RATE : 21 * RATE] = 0.0  # the only silence; its last 0.2 s are centred on 20.9 s
        first, second = cut_windows([waveform], RATE, window_s=30.0, earliest_s=10.0)
        assert second.start == len(first.waveform) == round(20.9 * RATE)

    def test_quietest_by_hand(self) -> None:
        waveform = np.ones(1000, np.float32)  # 10 s at 100 Hz: one sample a frame, 20 samples in 0.2 s
        waveform[300:320] = 0.5
        assert quietest(waveform, 100) == 310

    def test_impossible_windows(self) -> None:
        with pytest.raises(ValueError, match="earliest_s"):
            list(cut_windows([babble(1)], RATE, window_s=1.0, earliest_s=0.9))


class TestStream:
    @pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
    def test_stream_equals_the_whole(self, rate: int, tmp_path: Path) -> None:
        audio = np.stack([babble(7.3, seed=1), babble(7.3, seed=2)], axis=1)
        soundfile.write(tmp_path / "a.wav", audio, rate)
        whole = load_audio(tmp_path / "a.wav", RATE)
        streamed = np.concatenate(list(stream_audio(tmp_path / "a.wav", RATE, block_s=1.7)))
        assert streamed.shape == whole.shape
        np.testing.assert_allclose(streamed, whole, atol=1e-4)


class TestRecogniser:
    def test_segments_of_long_audio(self, recogniser: Recogniser, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "long.flac", babble(70.0), RATE)
        transcript = recogniser.transcribe(tmp_path / "long.flac")
        assert transcript.duration_s == pytest.approx(70.0)
        assert len(transcript.segments) >= 3
        assert transcript.text == " ".join(segment.text for segment in transcript.segments)
        starts = [segment.start_s for segment in transcript.segments]
        ends = [segment.end_s for segment in transcript.segments]
        assert starts[0] == 0.0
        assert ends[:-1] == starts[1:]
        assert ends[-1] == pytest.approx(70.0)

    def test_text_is_the_same_whatever_the_batch(self, package: Path, tmp_path: Path) -> None:
        files = []
        for index, seconds in enumerate([2.0, 65.0, 0.5, 12.0, 31.0]):
            files.append(tmp_path / f"{index}.wav")
            soundfile.write(files[-1], babble(seconds, seed=index), RATE)
        results = []
        for batch_s in (1.0, 60.0, 1000.0):
            recogniser = Recogniser(read_package(package), batch_s=batch_s)
            results.append(list(recogniser.transcribe_many(files)))
        assert results[0] == results[1] == results[2]
        assert all(isinstance(result, Transcript) and result.text for result in results[0])
        assert results[0] == [recogniser.transcribe(file) for file in files]

    def test_every_kind_of_source_reads_the_same(self, recogniser: Recogniser, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, babble(4.0), RATE, subtype="FLOAT")
        text = recogniser.transcribe(path).text
        assert text
        assert recogniser.transcribe(str(path)).text == text
        assert recogniser.transcribe(path.read_bytes()).text == text
        assert recogniser.transcribe(io.BytesIO(path.read_bytes())).text == text
        assert recogniser.transcribe(babble(4.0), RATE).text == text
        assert recogniser.transcribe(np.stack([babble(4.0)] * 2, axis=1), RATE).text == text

    def test_arrays_need_a_rate(self, recogniser: Recogniser) -> None:
        for rate in (None, 0):
            with pytest.raises(AudioError, match="sample rate"):
                recogniser.transcribe(babble(1.0), rate)

    def test_bad_audio_does_not_stop_the_rest(self, recogniser: Recogniser, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "good.wav", babble(2.0), RATE)
        broken = babble(40.0)
        broken[-10] = np.nan  # found only after the first window was cut
        soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
        files = [tmp_path / name for name in ("absent.wav", "good.wav", "nan.wav", "good.wav", "none.wav")]
        results = list(recogniser.transcribe_many(files))
        assert [isinstance(result, AudioError) for result in results] == [True, False, True, False, True]
        assert "absent.wav" in str(results[0])
        assert "nan.wav" in str(results[2])
        assert results[1] == results[3]

    @pytest.mark.parametrize("n_samples", [1, 100, 16000])
    def test_one_sample_and_silence(self, recogniser: Recogniser, n_samples: int) -> None:
        transcript = recogniser.transcribe(np.zeros(n_samples, np.float32), RATE)
        assert transcript.duration_s == n_samples / RATE

    def test_progress_adds_up(self, recogniser: Recogniser) -> None:
        seconds: list[float] = []
        list(recogniser.transcribe_many([babble(200.0), babble(3.0)], RATE, on_progress=seconds.append))
        assert len(seconds) > 1
        assert sum(seconds) == pytest.approx(203.0)

    def test_threads_share_one(self, recogniser: Recogniser) -> None:
        waveforms = [babble(5.0, seed) for seed in range(4)]
        expected = [recogniser.transcribe(waveform, RATE).text for waveform in waveforms]
        found = [""] * len(waveforms)

        def work(index: int) -> None:
            found[index] = recogniser.transcribe(waveforms[index], RATE).text

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(waveforms))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected
        assert len(set(expected)) == 4


class TestWords:
    def test_words_are_those_of_the_text_in_order(self, with_words: Recogniser) -> None:
        transcript = with_words.transcribe(babble(70.0), RATE)
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
        waveform = babble(70.0)
        transcript = with_words.transcribe(waveform, RATE)
        last = transcript.segments[-1]
        start = round(last.start_s * RATE)
        (alone,) = with_words.transcribe(waveform[start:], RATE).segments
        assert alone.text == last.text
        for word, other in zip(last.words, alone.words, strict=True):
            assert (word.start_s, word.end_s) == pytest.approx((other.start_s + last.start_s, other.end_s + last.start_s))
            assert word.confidence == pytest.approx(other.confidence)

    def test_words_are_found_only_where_asked_for(self, recogniser: Recogniser, with_words: Recogniser) -> None:
        plain = recogniser.transcribe(babble(5.0), RATE)
        assert all(segment.words == () and segment.confidence is None for segment in plain.segments)
        assert with_words.transcribe(babble(5.0), RATE).text == plain.text

    def test_words_are_the_same_whatever_the_batch(self, package: Path) -> None:
        waveforms = [babble(seconds, seed=index) for index, seconds in enumerate([2.0, 7.0, 0.5])]
        one, all_together = (Recogniser(read_package(package), batch_s=batch_s, words=True) for batch_s in (0.1, 60.0))
        pairs = zip(one.transcribe_many(waveforms, RATE), all_together.transcribe_many(waveforms, RATE), strict=True)
        for alone, together in pairs:
            assert isinstance(alone, Transcript)
            assert isinstance(together, Transcript)
            for word, other in zip(alone.segments[0].words, together.segments[0].words, strict=True):
                assert (word.text, word.start_s, word.end_s) == (other.text, other.start_s, other.end_s)
                assert word.confidence == pytest.approx(other.confidence, abs=1e-4)


class TestWriters:
    transcript = Transcript("d/a.wav", 3.25, (Segment(0.0, 2.0, "oh"), Segment(2.0, 3.25, "\u00e4")), "m", "abc")

    def test_text_and_json(self) -> None:
        assert render(self.transcript, "txt") == "oh \u00e4\n"
        assert json.loads(render(self.transcript, "json")) == {
            "file": "d/a.wav",
            "duration_s": 3.25,
            "text": "oh \u00e4",
            "segments": [{"start_s": 0.0, "end_s": 2.0, "text": "oh"}, {"start_s": 2.0, "end_s": 3.25, "text": "\u00e4"}],
            "model": {"name": "m", "checkpoint": "abc"},
        }
        with pytest.raises(ConfigError, match="txt, json"):
            render(self.transcript, "srt")

    def test_words(self) -> None:
        words = (Word("oh", 0.11111, 0.5, 0.91234), Word("no", 0.5, 1.0, 0.5))
        transcript = Transcript("a.wav", 3.0, (Segment(0.0, 2.0, "oh no", words), Segment(2.0, 3.0, "x")), "m", "abc")
        assert render(transcript, "txt") == "oh no x\n"
        first, second = json.loads(render(transcript, "json"))["segments"]
        assert first == {
            **{"start_s": 0.0, "end_s": 2.0, "text": "oh no", "confidence": 0.706},
            "words": [
                {"text": "oh", "start_s": 0.111, "end_s": 0.5, "confidence": 0.912},
                {"text": "no", "start_s": 0.5, "end_s": 1.0, "confidence": 0.5},
            ],
        }
        assert second == {"start_s": 2.0, "end_s": 3.0, "text": "x"}

    def test_names_that_collide(self, tmp_path: Path) -> None:
        assert output_paths(["x/a.wav", "x/b.mp3"], tmp_path, "txt") == [tmp_path / "a.txt", tmp_path / "b.txt"]
        for pair in (["x/a.wav", "y/a.wav"], ["a.wav", "a.mp3"], ["a.wav", "A.wav"], ["a.wav", "a.wav"]):
            with pytest.raises(ConfigError, match="both be written"):
                output_paths(pair, tmp_path, "txt")
        with pytest.raises(ConfigError, match="overwritten"):
            output_paths([str(tmp_path / "a.txt")], tmp_path, "txt")


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[str]:
        names = []
        for index, name in enumerate(["a.wav", "b.flac", "c.mp3"]):
            soundfile.write(tmp_path / name, babble(2.0, seed=index), RATE)
            names.append(str(tmp_path / name))
        return names

    def test_text_of_one_is_plain_and_of_several_is_named(
        self, package: Path, files: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["transcribe", "--model", str(package), files[0]]) == 0
        plain = capsys.readouterr().out
        assert main(["transcribe", "--model", str(package), *files]) == 0
        lines = capsys.readouterr().out.splitlines(keepends=True)
        assert lines[0] == f"{files[0]}: {plain}"
        assert [line.partition(": ")[0] for line in lines] == files

    def test_json_lines(self, package: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["transcribe", "--model", str(package), "--format", "json", *files]) == 0
        mappings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [mapping["file"] for mapping in mappings] == files
        assert mappings[0]["model"]["name"] == "nonsense"

    def test_words_go_into_json_alone(self, package: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["transcribe", "--model", str(package), "--words", "--format", "json", files[0]]) == 0
        (segment,) = json.loads(capsys.readouterr().out)["segments"]
        assert " ".join(word["text"] for word in segment["words"]) == segment["text"]
        assert main(["transcribe", "--model", str(package), "--words", files[0]]) == 2
        assert "give --format json" in capsys.readouterr().err

    def test_a_bad_file_is_named_and_the_rest_are_written(
        self, package: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "bad.wav").write_bytes(b"RIFFnonsense")
        out = tmp_path / "out"
        assert main(["transcribe", "--model", str(package), "-o", str(out), files[0], str(tmp_path / "bad.wav"), files[1]]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "bad.wav" in captured.err
        assert "1 of 3 files" in captured.err
        assert sorted(path.name for path in out.iterdir()) == ["a.txt", "b.txt"]

    def test_colliding_names_are_refused_before_any_work(
        self, package: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        assert main(["transcribe", "--model", str(package), "-o", str(out), files[0], "elsewhere/a.mp3"]) == 2
        assert "both be written" in capsys.readouterr().err
        assert not out.exists()

    def test_the_model_is_named_by_the_environment_or_asked_for(
        self, package: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("ASR_MODEL", raising=False)
        assert main(["transcribe", files[0]]) == 2
        assert "scripts/quickstart" in capsys.readouterr().err
        monkeypatch.setenv("ASR_MODEL", str(package))
        assert main(["transcribe", files[0]]) == 0
        assert main(["transcribe", "--model", "nowhere", files[0]]) == 2
        assert "nowhere: no such folder" in capsys.readouterr().err


def test_package_imports_lazily() -> None:
    assert asr.Recogniser is Recogniser
    with pytest.raises(AttributeError, match="nothing"):
        asr.nothing  # noqa: B018 - the access is the test
