"""``asr prepare``: the commands, LibriSpeech's layout and the synthetic corpus."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, tone

from asr.audio import load_audio
from asr.commands import prepare
from asr.data import synthetic
from asr.data.librispeech import prepare_part
from asr.data.manifest import read_manifest
from asr.errors import DataError, UserError
from asr.speech import espeak


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    return prepare.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "LibriSpeech"
    for speaker, suffix, text in (("14", "flac", "HELLO THERE"), ("17", "wav", "GOOD MORNING"), ("99", "mp3", "IT'S LATE")):
        chapter = folder / "dev-x" / speaker / "5"
        chapter.mkdir(parents=True)
        soundfile.write(chapter / f"{speaker}-5-0000.{suffix}", tone(1.0), SAMPLE_RATE)
        (chapter / f"{speaker}-5.trans.txt").write_text(f"{speaker}-5-0000 {text}\n")
    (folder / "SPEAKERS.TXT").write_text("; comment\n14   | F | dev-x | 1.0 | A | B\n17   | M | dev-x | 1.0 | C\n")
    return folder


def test_librispeech_layout(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("librispeech", "--parts", "dev-x", "--folder", corpus, "--manifests", tmp_path / "m")
    assert run(*arguments) == 0
    assert "3 utterances, 3 speakers" in capsys.readouterr().out
    cuts = read_manifest("librispeech/dev-x", tmp_path / "m")
    found = {cut.id: (cut.supervisions[0].text, cut.supervisions[0].speaker, cut.supervisions[0].gender) for cut in cuts}
    assert found == {
        "14-5-0000": ("HELLO THERE", "14", "F"),
        "17-5-0000": ("GOOD MORNING", "17", "M"),
        "99-5-0000": ("IT'S LATE", "99", None),
    }
    assert run(*arguments) == 0
    assert "up to date" in capsys.readouterr().out


def test_librispeech_faults(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such part of LibriSpeech\. Did you mean dev-x\?"):
        prepare_part("dev-y", corpus, tmp_path / "m")
    with pytest.raises(DataError, match="add --download"):
        prepare_part("test-clean", tmp_path / "nowhere", tmp_path / "m")
    (corpus / "empty").mkdir()
    with pytest.raises(DataError, match="holds no transcripts"):
        prepare_part("empty", corpus, tmp_path / "m")
    (corpus / "dev-x" / "14" / "5" / "14-5-0000.flac").unlink()
    with pytest.raises(DataError, match=r"1 missing file(?s:.*)14-5\.trans\.txt, line 1"):
        prepare_part("dev-x", corpus, tmp_path / "m")


def test_librispeech_takes_every_ending_and_names_what_has_no_transcript(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chapter = corpus / "dev-x" / "14" / "5"
    soundfile.write(chapter / "14-5-0000.mp3", tone(1.0), SAMPLE_RATE)  # the same once more, but not as faithful
    (chapter / "14-5-0000.flac").rename(chapter / "14-5-0000.FLAC")
    soundfile.write(chapter / "14-5-0001.aiff", tone(1.0), SAMPLE_RATE)
    with (chapter / "14-5.trans.txt").open("a") as stream:
        stream.write("14-5-0001 ONCE MORE\n")
    soundfile.write(chapter / "14-5-0002.wav", tone(1.0), SAMPLE_RATE)
    for _ in range(2):
        assert run("librispeech", "--parts", "dev-x", "--folder", corpus, "--manifests", tmp_path / "m") == 0
        spare = f"1 recordings have no transcript, such as {chapter / '14-5-0002.wav'}"
        assert capsys.readouterr().err.endswith(f"{tmp_path / 'm' / 'librispeech' / 'dev-x.jsonl.gz'}: {spare}\n")
    files = {cut.id: Path(cut.recording.sources[0].source).name for cut in read_manifest("librispeech/dev-x", tmp_path / "m")}
    assert (files["14-5-0000"], files["14-5-0001"]) == ("14-5-0000.FLAC", "14-5-0001.aiff")


def test_rows_left_out_show_in_the_exit_code(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (corpus / "dev-x" / "14" / "5" / "14-5-0000.flac").write_bytes(b"")
    arguments = ("librispeech", "--parts", "dev-x", "--folder", corpus, "--manifests", tmp_path / "m", "--skip-invalid")
    for _ in range(2):
        assert run(*arguments) == 3
        assert "2 utterances, 2 speakers, 0.00 h, 1 rejected" in capsys.readouterr().out


def test_real_speech(speech_data: Path, tmp_path: Path) -> None:
    summary = prepare_part("dev-clean-b", speech_data / "LibriSpeech", tmp_path)
    assert (summary.n_utterances, summary.n_speakers) == (352, 5)
    assert summary.hours == pytest.approx(0.68, abs=0.005)
    cut = read_manifest("librispeech/dev-clean-b", tmp_path)[0]
    assert len(load_audio(cut.recording.sources[0].source, cut.sampling_rate)) == cut.num_samples


def test_table_and_kaldi_commands(write_corpus: Callable[..., Path], tmp_path: Path) -> None:
    table = write_corpus([0.3, 0.4])
    manifests = tmp_path / "m"
    assert run("table", table, "--name", "mine/train", "--manifests", manifests) == 0
    (tmp_path / "wav.scp").write_text(f"a {table.parent / 'u0.wav'}\n")
    (tmp_path / "text").write_text("a ONE\n")
    assert run("kaldi", tmp_path, "--name", "k", "--manifests", manifests, "--decode") == 0
    assert len(read_manifest(["mine/train", "k/all"], manifests)) == 3
    with pytest.raises(DataError, match="no column 'words'"):
        run("table", table, "--name", "mine/train", "--manifests", manifests, "--text-column", "words")


def test_silence_with_a_transcript_and_channels_that_cancel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent, inverted, good = tmp_path / "silent.wav", tmp_path / "inverted.wav", tmp_path / "good.wav"
    soundfile.write(silent, np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    soundfile.write(inverted, np.stack([tone(1.0), -tone(1.0)], axis=1), SAMPLE_RATE)
    soundfile.write(good, np.concatenate([tone(1.0), np.zeros(SAMPLE_RATE)]), SAMPLE_RATE)
    rows = [
        "audio,text,start,duration",
        "silent.wav,one,,",
        "inverted.wav,two,,",
        "good.wav,three,0,1.5",
        "good.wav,four,1.2,0.5",
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    columns = ("--start-column", "start", "--duration-column", "duration")
    arguments = ("table", tmp_path / "t.csv", "--name", "mine", "--manifests", tmp_path / "m", *columns, "--decode")
    with pytest.raises(DataError, match=r"2 of 4 rows cannot be used \(2 silence\)(?s:.*)row 2: silent(?s:.*)row 5: good"):
        run(*arguments)
    capsys.readouterr()
    for _ in range(2):
        assert run(*arguments, "--skip-invalid") == 3
        out, err = capsys.readouterr()
        assert "2 utterances, 0 speakers, 0.00 h, 2 rejected" in out
        assert f"{inverted}: its channels cancel each other in 100% of it, where channel 0 was taken alone" in err
    (tmp_path / "t.csv").write_text("\n".join([rows[0], rows[3]]) + "\n")
    assert run(*arguments) == 0


def test_synthetic_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("synthetic", "--out", tmp_path / "a", "--manifests", tmp_path / "m", "--utterances", 8, 2, 3)
    assert run(*arguments) == 0
    parts = {part: read_manifest(f"synthetic/{part}", tmp_path / "m") for part in ("train", "dev", "test")}
    assert {part: len(cuts) for part, cuts in parts.items()} == {"train": 8, "dev": 2, "test": 3}
    for cut in parts["train"]:
        assert cut.sampling_rate == 16000
        assert 0.4 < cut.duration < 8
        waveform = load_audio(cut.recording.sources[0].source, 16000)
        assert 0.09 < np.abs(waveform).max() <= 1.0
        assert np.abs(waveform[:500]).max() < 0.1 * np.abs(waveform).max()  # a pause comes first
    files = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.flac")}
    assert len(files) == 13
    times = {path: path.stat().st_mtime_ns for path in files}
    capsys.readouterr()
    assert run(*arguments) == 0
    assert capsys.readouterr().out.count("up to date") == 3
    lost = sorted(files)[9]
    lost.unlink()
    assert run(*arguments) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.flac")} == files
    assert [path for path in files if path.stat().st_mtime_ns != times[path]] == [lost]


def test_synthetic_plan_follows_the_seed_and_keeps_voices_apart() -> None:
    plans = {part: [synthetic.plan(part, index, 1) for index in range(300)] for part in synthetic.VARIANTS}
    assert plans["train"][:5] == [synthetic.plan("train", index, 1) for index in range(5)]
    assert plans["train"][:5] != [synthetic.plan("train", index, 2) for index in range(5)]
    variants = {part: {spec.voice.partition("+")[2] for spec in specs} for part, specs in plans.items()}
    assert not variants["train"] & variants["dev"]
    assert not variants["train"] & variants["test"]
    assert not variants["dev"] & variants["test"]
    words = {word for specs in plans.values() for spec in specs for word in spec.text.split()}
    assert 55 < len(words) < 75
    assert all(word.isalpha() for word in words)


def test_synthetic_voices_exist() -> None:
    import espeakng_loader

    # The synthesiser takes a variant that it does not have for none at all.
    there = {path.name for path in Path(espeakng_loader.get_data_path(), "voices", "!v").iterdir()}
    assert {variant for variants in synthetic.VARIANTS.values() for variant in variants} <= there


def test_synthetic_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="0 utterances asked for"):
        list(synthetic.prepare(tmp_path / "a", tmp_path / "m", sizes={"train": 0}))
    with pytest.raises(DataError, match="has no part 'eval'"):
        list(synthetic.prepare(tmp_path / "a", tmp_path / "m", sizes={"eval": 1}))
    monkeypatch.setattr(espeak, "ENGLISH", ("xx-none",))
    with pytest.raises(UserError, match="no voice 'xx-none"):
        list(synthetic.prepare(tmp_path / "a", tmp_path / "m", sizes={"train": 1}))
    assert not list((tmp_path / "a").rglob("*.flac"))
