"""Tables and Kaldi folders: every wrong row is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, tone

from asr.audio import AudioInfo, load_audio, probe_audio
from asr.config import Config
from asr.data.batches import evaluation_loader
from asr.data.hold_out import hold_out
from asr.data.manifest import read_manifest
from asr.data.table import Columns, prepare_kaldi, prepare_table
from asr.data.validate import Utterance, rejected_path
from asr.errors import DataError
from asr.files import replacing


@pytest.fixture
def folder(tmp_path: Path, tone_wav: Path) -> Path:
    soundfile.write(tmp_path / "stereo.flac", np.stack([tone(1.0), 0 * tone(1.0)], axis=1), SAMPLE_RATE)
    (tmp_path / "empty.wav").touch()
    return tmp_path


def texts(manifests: Path, name: str) -> dict[str, str]:
    return {cut.id: cut.supervisions[0].text for cut in read_manifest(name, manifests)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'audio,text\ntone.wav,"one, two"\nstereo.flac,three\n'),
        ("t.csv", '\ufeffaudio,text\r\ntone.wav,"one, two"\r\n\r\nstereo.flac,three\r\n'),
        ("t.tsv", "audio\ttext\ntone.wav\tone, two\nstereo.flac\tthree\n"),
        ("t.jsonl", '{"audio": "tone.wav", "text": "one, two"}\n\n{"text": "three", "audio": "stereo.flac", "more": 1}\n'),
    ],
)
def test_kinds_of_table(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    (summary,) = prepare_table(folder / name, "mine", folder / "m")
    assert (summary.n_utterances, summary.n_rejected, summary.fresh) == (2, 0, True)
    assert summary.hours == pytest.approx(1.5 / 3600)
    assert texts(folder / "m", "mine/all") == {"tone": "one, two", "stereo": "three"}


def test_names_and_texts_that_are_no_unicode(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (folder / "tone.wav").rename(folder / name)
    rows = [{"audio": name, "text": "one"}, {"audio": "stereo.flac", "text": "\ud800 two"}]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"1 broken text\)"):
        list(prepare_table(folder / "t.jsonl", "mine", folder / "m"))
    list(prepare_table(folder / "t.jsonl", "mine", folder / "m", skip_invalid=True, dev_share=0.0))
    (cut,) = read_manifest("mine/all", folder / "m")
    assert (cut.id, cut.recording.sources[0].source) == (name.removesuffix(".wav"), str(folder / name))
    assert len(evaluation_loader(read_manifest("mine/all", folder / "m"), Config())) == 1


def test_another_delimiter(folder: Path) -> None:
    (folder / "t.csv").write_text("audio;text\ntone.wav;one, two\n")
    list(prepare_table(folder / "t.csv", "mine", folder / "m", delimiter=";"))
    assert texts(folder / "m", "mine/all") == {"tone": "one, two"}


def test_stereo_is_averaged_in_batches(folder: Path) -> None:
    (folder / "t.csv").write_text("audio,text\nstereo.flac,three\n")
    list(prepare_table(folder / "t.csv", "mine", folder / "m"))
    (batch,) = evaluation_loader(read_manifest("mine/all", folder / "m"), Config())
    np.testing.assert_allclose(batch.waveforms[0], tone(1.0) / 2, atol=1e-4)


def test_columns_by_name_and_splits(folder: Path) -> None:
    (folder / "t.csv").write_text("path,words,who,part,key\ntone.wav,one,ann,train,a\nstereo.flac,two,bob,dev,b\n")
    columns = Columns(audio="path", text="words", speaker="who", split="part", id="key")
    summaries = list(prepare_table(folder / "t.csv", "mine", folder / "m", columns))
    assert [summary.path.name for summary in summaries] == ["train.jsonl.gz", "dev.jsonl.gz"]
    (cut,) = read_manifest("mine/dev", folder / "m")
    assert (cut.id, cut.supervisions[0].text, cut.supervisions[0].speaker) == ("b", "two", "bob")


def test_stretches_of_a_recording(folder: Path) -> None:
    (folder / "t.csv").write_text("audio,text,from,for\ntone.wav,one,0.0,0.25\ntone.wav,two,0.25,0.25\n")
    list(prepare_table(folder / "t.csv", "mine", folder / "m", Columns(start="from", duration="for")))
    cuts = read_manifest("mine/all", folder / "m")
    assert [(cut.start, cut.duration) for cut in cuts] == [(0.0, 0.25), (0.25, 0.25)]
    (batch,) = evaluation_loader(cuts, Config())
    whole = load_audio(folder / "tone.wav", SAMPLE_RATE)
    for utterance, waveform in zip(batch.ids, batch.waveforms, strict=True):
        start = round(cuts[utterance].start * SAMPLE_RATE)
        np.testing.assert_array_equal(waveform, whole[start : start + 4000])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "the table is empty"),
        ("t.csv", "audio,text\n", "the table is empty"),
        ("t.jsonl", "\n", "the table is empty"),
        ("t.csv", "audio;text\ntone.wav;one, two\n", "one column, 'audio;text'.*--delimiter ';'"),
        ("t.csv", "audio;text;in German, if any\ntone.wav;one;eins\n", "'audio;text;in German', 'if any', as.*--delimiter ';'"),
        ("t.csv", "path;text, as read;speaker\ntone.wav;one;x\n", "'path;text', 'as read;speaker', as.*--delimiter ';'"),
        ("t.csv", "audio,more;less\ntone.wav,one;x\n", "no column 'text'"),
        ("t.csv", "audio\ttext\ntone.wav\tone\n", "',' divides those of .csv; if .* --delimiter tab"),
        ("t.csv", '"audio, wav",text\ntone.wav,one\n', r": has no column 'audio'. Did you mean audio, wav"),
        ("t.tsv", "clip\tsentence (lower, plain, ascii)\ntone.wav\tone\n", r": has no column 'audio'"),
        ("t.tsv", "audio,text\ntone.wav,one\n", "--delimiter ','"),
        ("t.csv", "audoi,text\ntone.wav,one\n", r"no column 'audio'. Did you mean audoi\?.*--audio-column"),
        ("t.csv", "audio,transcript\ntone.wav,one\n", "no column 'text'.*'audio', 'transcript'"),
        ("t.csv", "audio,text\ntone.wav,one,two\n", "row 2: has 3 columns, the header has 2"),
        ("t.csv", 'audio,text\ntone.wav,"one\n', "row 2: is malformed"),
        ("t.jsonl", '{"audio": "tone.wav", "text": "one"}\n{"audio"\n', "row 2: is not JSON"),
        ("t.jsonl", "[1]\n", "row 1: expected an object"),
        ("t.txt", "tone.wav one\n", r"expected a table that ends in \.csv"),
    ],
)
def test_malformed_tables(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        list(prepare_table(folder / name, "mine", folder / "m"))
    assert not (folder / "m").exists()


def test_table_that_is_not_utf8_or_not_there(folder: Path) -> None:
    (folder / "t.csv").write_bytes(b"audio,text\ntone.wav,caf\xe9\n")
    with pytest.raises(DataError, match=r"t\.csv, line 2: is not UTF-8 text \(byte 0xe9\)"):
        list(prepare_table(folder / "t.csv", "mine", folder / "m"))
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        list(prepare_table(folder / "gone.csv", "mine", folder / "m"))


@pytest.mark.parametrize("name", ["../up", "a/b/c", "", ".", "a/..", "/etc/x"])
def test_names_that_would_leave_the_folder(folder: Path, name: str) -> None:
    (folder / "t.csv").write_text("audio,text\ntone.wav,one\n")
    with pytest.raises(DataError, match="cannot name a manifest"):
        list(prepare_table(folder / "t.csv", name, folder / "m"))


WRONG_ROWS = {
    "missing file": "b,gone.wav,two,0,0.1",
    "unreadable audio": "b,empty.wav,two,0,0.1",
    "empty text": "b,tone.wav, ,0,0.1",
    "no words": "b,tone.wav,...!?,0,0.1",
    "duplicate id": "a,tone.wav,two,0,0.1",
    "no id": ",tone.wav,two,0,0.1",
    "bad time": "b,tone.wav,two,nan,0.1",
    "bad time ": "b,tone.wav,two,0,-1",
    "bad time  ": "b,tone.wav,two,soon,1",
    "beyond the recording": "b,tone.wav,two,0.4,0.5",
}


@pytest.mark.parametrize("reason", WRONG_ROWS)
def test_wrong_rows(folder: Path, reason: str) -> None:
    table = folder / "t.csv"
    table.write_text(f"id,audio,text,start,duration\na,tone.wav,one,0,0.2\n{WRONG_ROWS[reason]}\n")
    columns = Columns(start="start", duration="duration")
    with pytest.raises(DataError, match=rf"1 of 2 rows cannot be used \(1 {reason.strip()}\).*\n.*row 3.*\n.*--skip-invalid"):
        list(prepare_table(table, "mine", folder / "m", columns))
    assert not (folder / "m" / "mine" / "all.jsonl.gz").exists()
    (summary,) = prepare_table(table, "mine", folder / "m", columns, skip_invalid=True)
    assert (summary.n_utterances, summary.n_rejected) == (1, 1)
    (rejection,) = map(json.loads, rejected_path(summary.path).read_text().splitlines())
    assert rejection["reason"] == reason.strip()
    assert rejection["where"].endswith("row 3")
    assert texts(folder / "m", "mine/all") == {"a": "one"}


def test_many_wrong_rows_are_counted(folder: Path) -> None:
    rows = [f"{n},gone{n}.wav,one" for n in range(30)] + [f"x{n},tone.wav," for n in range(5)]
    (folder / "t.csv").write_text("\n".join(["id,audio,text", *rows]))
    with pytest.raises(DataError, match=r"35 of 35 rows cannot be used \(30 missing file, 5 empty text\)") as caught:
        list(prepare_table(folder / "t.csv", "mine", folder / "m"))
    assert "... and 25 more" in str(caught.value)
    with pytest.raises(DataError, match="no usable utterance among 35 rows"):
        list(prepare_table(folder / "t.csv", "mine", folder / "m", skip_invalid=True))


def test_damage_behind_a_good_header(folder: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 4 * SAMPLE_RATE)
    soundfile.write(folder / "cut.flac", noise, SAMPLE_RATE)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:20000])
    (folder / "t.csv").write_text("audio,text\ncut.flac,one\n")
    assert [summary.n_utterances for summary in prepare_table(folder / "t.csv", "mine", folder / "m")] == [1]
    with pytest.raises(DataError, match=r"1 unreadable audio.*(?s:.*)truncated"):
        list(prepare_table(folder / "t.csv", "mine", folder / "m", decode=True))


def test_preparing_twice_does_no_work_twice(
    write_corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[str] = []

    def counted(path: Path, **_: Any) -> AudioInfo:
        probed.append(path.name)
        return probe_audio(path)

    monkeypatch.setattr("asr.data.probing.probe_audio", counted)
    table = write_corpus([0.3, 0.3, 0.3])
    for expected_fresh, expected_probed in ((True, 3), (False, 3)):
        (summary,) = prepare_table(table, "mine", tmp_path / "m")
        assert (summary.fresh, len(probed)) == (expected_fresh, expected_probed)
    table.write_text(table.read_text().replace("text 1", "other words"))
    (summary,) = prepare_table(table, "mine", tmp_path / "m")
    assert summary.fresh
    assert texts(tmp_path / "m", "mine/all")["corpus-001"] == "other words"


def test_interrupted_preparation_goes_on(
    write_corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[str] = []

    def interrupted(path: Path, **_: Any) -> AudioInfo:
        if path.name == "u3.wav" and path.name not in probed:
            probed.append(path.name)
            raise KeyboardInterrupt
        probed.append(path.name)
        return probe_audio(path)

    monkeypatch.setattr("asr.data.probing.probe_audio", interrupted)
    table = write_corpus([0.3] * 6)
    with pytest.raises(KeyboardInterrupt):
        list(prepare_table(table, "mine", tmp_path / "m", n_threads=1))
    assert not (tmp_path / "m" / "mine" / "all.jsonl.gz").exists()
    (summary,) = prepare_table(table, "mine", tmp_path / "m", n_threads=1)
    assert summary.n_utterances == 6
    assert probed.count("u0.wav") == probed.count("u2.wav") == 1
    assert [path.name for path in sorted(summary.path.parent.iterdir())] == ["all.info.json", "all.jsonl.gz"]


def kaldi(folder: Path, **files: str) -> Path:
    target = folder / "kaldi"
    target.mkdir(exist_ok=True)
    for name, content in files.items():
        (target / name.replace("_", ".")).write_text(content)
    return target


def test_kaldi_folder(folder: Path) -> None:
    target = kaldi(
        folder, wav_scp=f"a {folder / 'tone.wav'}\nb ../stereo.flac\n", text="a ONE\nb TWO THREE\n", utt2spk="a ann\nb bob\n"
    )
    summary = prepare_kaldi(target, "k/train", folder / "m")
    assert (summary.n_utterances, summary.n_speakers) == (2, 2)
    assert texts(folder / "m", "k/train") == {"a": "ONE", "b": "TWO THREE"}


def test_kaldi_segments(folder: Path) -> None:
    target = kaldi(
        folder, wav_scp=f"rec {folder / 'tone.wav'}\n", text="a ONE\nb TWO\n", segments="a rec 0.10 0.30\nb rec 0.30 -1\n"
    )
    assert not prepare_kaldi(target, "k", folder / "m").notices
    cuts = read_manifest("k/all", folder / "m")
    assert [(cut.start, cut.recording_id) for cut in cuts] == [(0.1, "rec"), (0.3, "rec")]
    assert [cut.duration for cut in cuts] == pytest.approx([0.2, 0.2])


def test_kaldi_entries_without_a_transcript(folder: Path) -> None:
    scp = f"rec {folder / 'tone.wav'}\nother ../stereo.flac\nthird gone.wav\n"
    target = kaldi(folder, wav_scp=scp, text="a ONE\n", segments="a rec 0.10 0.30\nb rec 0.30 -1\n")
    assert prepare_kaldi(target, "k", folder / "m").notices == (
        f"{target / 'wav.scp'}: 2 entries have no transcript, such as other",
        f"{target / 'segments'}: 1 entries have no transcript, such as b",
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": "a touch ran |\n", "text": "a ONE\n"}, "row 1: is a command .*never run"),
        ({"wav_scp": "a tone.wav\n", "text": ""}, "text: is empty"),
        ({"wav_scp": "a tone.wav\n", "text": "b ONE\n"}, "text, row 1: the recording 'b' is not in"),
        ({"wav_scp": "a tone.wav\na tone.wav\n", "text": "a ONE\n"}, "row 2: 'a' occurs twice"),
        ({"wav_scp": "a tone.wav\n", "text": "a ONE\n", "segments": "b a 0 1\n"}, "utterance 'a' is not in .*segments"),
        ({"wav_scp": "a tone.wav\n", "text": "a ONE\n", "segments": "a a 0\n"}, "segments, row 1: expected .*found 3 columns"),
        ({"text": "a ONE\n"}, r"wav\.scp: no such file"),
    ],
)
def test_kaldi_faults(folder: Path, files: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=message):
        prepare_kaldi(kaldi(folder, **files), "k", folder / "m")
    assert not (folder / "ran").exists()
    assert not (folder / "m").exists()


def test_kaldi_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        prepare_kaldi(folder / "gone", "k", folder / "m")


def spoken(n: int, speaker: Callable[[int], str | None]) -> list[Utterance]:
    return [Utterance(f"u{i}", Path("a.wav"), "one", f"row {i}", speaker(i)) for i in range(n)]


def test_hold_out_takes_whole_speakers() -> None:
    utterances = spoken(200, lambda i: f"s{i % 40}")
    kept, held_out = hold_out(utterances, 0.1)
    assert len(held_out) == 20  # four speakers of five utterances
    assert not {u.speaker for u in kept} & {u.speaker for u in held_out}
    assert sorted(kept + held_out, key=lambda u: int(u.id[1:])) == utterances
    assert [u.id for u in hold_out(utterances[::-1], 0.1)[1]] == [u.id for u in held_out][::-1]


@pytest.mark.parametrize("speaker", [lambda i: None, lambda i: "me", lambda i: f"s{i % 9}"])
def test_hold_out_takes_utterances_where_speakers_are_few(speaker: Callable[[int], str | None]) -> None:
    kept, held_out = hold_out(spoken(50, speaker), 0.1)
    assert (len(kept), len(held_out)) == (45, 5)
    assert len(hold_out(spoken(3, speaker), 0.01)[1]) == 1


def test_dev_share_of_a_table(folder: Path) -> None:
    (folder / "t.csv").write_text("audio,text,part\ntone.wav,one,train\nstereo.flac,two,train\ntone.wav,three,test\n")
    train, dev, test = prepare_table(folder / "t.csv", "mine", folder / "m", Columns(split="part"), dev_share=0.5)
    assert [part.n_utterances for part in (train, dev, test)] == [1, 1, 1]
    assert texts(folder / "m", "mine/test") == {"tone": "three"}
    assert texts(folder / "m", "mine/train") | texts(folder / "m", "mine/dev") == {"tone": "one", "stereo": "two"}
    (folder / "all.csv").write_text("audio,text\ntone.wav,one\nstereo.flac,two\n")
    list(prepare_table(folder / "all.csv", "whole", folder / "m", dev_share=0.5))
    assert len(texts(folder / "m", "whole/train")) == len(texts(folder / "m", "whole/dev")) == 1


@pytest.mark.parametrize(
    ("rows", "name", "split", "message"),
    [
        ("tone.wav,one,test\n", "mine", "part", "it has test"),
        ("tone.wav,one,train\nstereo.flac,two,dev\n", "mine", "part", "it has train, dev"),
        ("tone.wav,one,train\n", "mine", "part", "none is left"),
        ("tone.wav,one,train\n", "mine/first", None, "name the corpus"),
    ],
)
def test_dev_share_that_cannot_be(folder: Path, rows: str, name: str, split: str | None, message: str) -> None:
    (folder / "t.csv").write_text(f"audio,text,part\n{rows}")
    with pytest.raises(DataError, match=message):
        list(prepare_table(folder / "t.csv", name, folder / "m", Columns(split=split), dev_share=0.5))
    assert not (folder / "m").exists()


def test_a_killed_preparation_leaves_nothing_that_is_taken_for_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables under one name, the second killed after each of the files that it writes: the first is prepared anew."""
    (folder / "a.csv").write_text("id,audio,text\nu,tone.wav,one\nv,stereo.flac,two\n")
    (folder / "b.csv").write_text("id,audio,text\nu,tone.wav,three\nv,absent.flac,four\n")

    class Killed(BaseException):
        pass

    def prepare(name: str) -> bool:
        (summary,) = prepare_table(folder / name, "mine", folder / "m", skip_invalid=True)
        return summary.fresh

    written: list[str] = []

    def killing(after: int) -> Callable[[Path], object]:
        @contextmanager
        def replace(path: Path) -> Iterator[BinaryIO]:
            if len(written) == after:
                raise Killed
            written.append(path.name)
            with replacing(path) as stream:
                yield stream

        return replace

    for n_written in range(3):
        prepare("a.csv")
        assert not prepare("a.csv")
        written.clear()
        with monkeypatch.context() as patch:
            for module in ("asr.data.validate", "asr.data.manifest"):
                patch.setattr(f"{module}.replacing", killing(n_written))
            with pytest.raises(Killed):
                prepare("b.csv")
        assert written == ["all.rejected.jsonl", "all.jsonl.gz", "all.info.json"][:n_written]
        assert prepare("a.csv")
        assert texts(folder / "m", "mine/all") == {"u": "one", "v": "two"}


@pytest.mark.parametrize("lost", ["all.jsonl.gz", "all.rejected.jsonl"])
def test_what_a_preparation_wrote_is_looked_at(folder: Path, lost: str) -> None:
    (folder / "t.csv").write_text("id,audio,text\nu,tone.wav,one\nv,absent.flac,two\n")
    for content in (None, b"", b"other"):
        (summary,) = prepare_table(folder / "t.csv", "mine", folder / "m", skip_invalid=True)
        assert summary.fresh
        assert texts(folder / "m", "mine/all") == {"u": "one"}
        path = folder / "m" / "mine" / lost
        if content is None or lost != "all.jsonl.gz":
            path.unlink()
        else:
            path.write_bytes(content)
