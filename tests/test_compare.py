"""`asr compare`: texts of every form, scored and compared; where the errors are."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr.cli import main
from asr.errors import ConfigError, DataError
from asr.scoring import score
from asr.scoring.breakdown import break_down
from asr.scoring.compare import System, compare
from asr.scoring.normalisers import build_normaliser
from asr.scoring.pairs import align_words, count_confusions
from asr.scoring.systems import read_systems
from asr.scoring.texts import read_texts
from asr.scoring.timed import Timed, pair_by_time

SAID = {"u1": "the cat sat", "u2": "on the mat", "u3": ""}
HEARD = {"u1": "the cat sat", "u2": "on a mat", "u3": "oh"}


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FORMS: dict[str, Callable[[dict[str, str]], str]] = {
    "a.jsonl": lambda texts: jsonl([{"id": name, "text": text} for name, text in texts.items()]),
    "b.jsonl": lambda texts: jsonl([{"file": f"some/{name}.wav", "text": text} for name, text in texts.items()]),
    "a.json": lambda texts: json.dumps([{"utterance_id": name, "hypothesis": text} for name, text in texts.items()]),
    "a.csv": lambda texts: "id,text\n" + "".join(f'{name},"{text}"\n' for name, text in texts.items()),
    "a.tsv": lambda texts: "\ufeffid\ttext\tspeaker\n" + "".join(f"{name}\t{text}\tx\n" for name, text in texts.items()),
    "a.trn": lambda texts: ";; a comment\n" + "".join(f"{text} ({name})\n" for name, text in texts.items()),
    "text": lambda texts: "".join(f"{name} {text}\n" for name, text in texts.items()),
}


@pytest.mark.parametrize("name", FORMS)
def test_texts_by_utterance(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name](SAID), encoding="utf-8")
    texts = read_texts(tmp_path / name)
    assert texts.by_id == SAID
    assert texts.references is None


def test_lines_are_paired_by_their_number(tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("the cat\n\non  the mat\n")
    assert read_texts(tmp_path / "said.txt").by_id == {"1": "the cat", "2": "", "3": "on the mat"}
    (tmp_path / "heard.txt").write_text("the cat\n\non the\n")
    corpus = read_systems([tmp_path / "heard.txt"], tmp_path / "said.txt")
    assert corpus.systems[0].score.wer.counts.to_mapping() == {"S": 0, "D": 1, "I": 0, "N": 5}


@pytest.mark.parametrize(
    "row",
    [
        {"id": "u", "reference": "a b", "hypothesis": "a c"},
        {"audio_filepath": "/x/u.flac", "text": "a b", "pred_text": "a c", "duration": 2.5},
    ],
)
def test_both_texts_in_one_file(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl([{**row, "speaker": "s", "n_best": [{"text": "a c"}, {"text": "a b"}]}]))
    texts = read_texts(tmp_path / "a.jsonl")
    assert (texts.by_id, texts.references) == ({"u": "a c"}, {"u": "a b"})
    assert texts.attributes["u"] == {"speaker": "s", **({"duration_s": 2.5, "audio": "/x/u.flac"} if "duration" in row else {})}
    assert texts.n_best["u"] == ("a c", "a b")


STM = """;; CATEGORY
rec 1 anna 0.0 2.0 <o,f> good morning
rec 1 ben 2.0 4.0 <o,m> to you
rec 1 inter 4.0 5.0 ignore_time_segment_in_scoring
rec 1 anna 6.0 8.0 <o,f> too
"""


def test_words_go_to_the_segments_of_their_time(tmp_path: Path) -> None:
    (tmp_path / "said.stm").write_text(STM)
    words = [(0.1, "good"), (1.0, "morning"), (2.1, "two"), (3.0, "you"), (4.3, "cough"), (5.7, "too"), (9.0, "yes")]
    (tmp_path / "heard.ctm").write_text("".join(f"rec 1 {start} 0.4 {word} 0.9\n" for start, word in words))
    corpus = read_systems([tmp_path / "heard.ctm"], tmp_path / "said.stm")
    rows = {row.id: (row.reference, row.hypothesis) for row in corpus.systems[0].score.utterances}
    assert rows == {
        "rec 1 0.00-2.00": ("good morning", "good morning"),
        "rec 1 2.00-4.00": ("to you", "two you"),
        "rec 1 6.00-8.00": ("too", "too yes"),
    }
    assert corpus.speakers == {"rec 1 0.00-2.00": "anna", "rec 1 2.00-4.00": "ben", "rec 1 6.00-8.00": "anna"}


def test_segments_that_overlap_keep_to_their_speakers(tmp_path: Path) -> None:
    def segment(speaker: str, start: float, end: float, words: str) -> dict[str, Any]:
        return {"session_id": "s", "speaker": speaker, "start_time": start, "end_time": end, "words": words}

    said = [segment("a", 0, 10, "one two three four"), segment("b", 4, 6, "five")]
    (tmp_path / "said.json").write_text(json.dumps(said))
    (tmp_path / "heard.json").write_text(json.dumps([segment("a", 0, 10, "one two three for"), segment("b", 4.5, 5, "five")]))
    corpus = read_systems([tmp_path / "heard.json"], tmp_path / "said.json")
    assert corpus.systems[0].score.wer.counts.to_mapping() == {"S": 1, "D": 0, "I": 0, "N": 5}


def test_placing_words_is_what_trying_all_segments_gives() -> None:
    rng = random.Random(1)
    starts = [round(rng.uniform(0, 100), 2) for _ in range(60)]
    said = [Timed("r", None, start, start + rng.choice([0.5, 2, 20]), f"w{index}") for index, start in enumerate(starts)]
    heard = [Timed("r", None, time, time, f"h{index}") for index, time in enumerate(rng.uniform(-0, 130) for _ in range(300))]
    _, found, attributes = pair_by_time(said, heard)
    where = {word: name for name, text in found.items() for word in text.split()}
    spans = {name: tuple(map(float, name.split()[1].split("-"))) for name in attributes}
    for word in heard:
        low, high = spans[where[word.text]]
        distances = [max(start - word.start_s, word.start_s - end, 0.0) for start, end in spans.values()]
        assert max(low - word.start_s, word.start_s - high, 0.0) == pytest.approx(min(distances), abs=0.011)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", "", "holds nothing"),
        ("a.jsonl", '{"id": "u", "text": "x"}\nnonsense\n', r"line 2: is not JSON"),
        ("a.jsonl", "[1]\n", r"line 1: expected an object"),
        ("a.jsonl", '{"id": "u", "said": "x"}\n', "names a text under none of the keys .*; it has id, said"),
        ("a.jsonl", '{"text": "x"}\n', "names an id under none of the keys"),
        ("a.jsonl", '{"id": "u", "text": 1.5}\n', "text is 1.5; expected a text"),
        ("a.jsonl", '{"id": "u", "text": "\\ud800"}\n', "halves of surrogate pairs"),
        ("a.jsonl", '{"id": "u", "text": "x"}\n{"id": "u", "text": "y"}\n', "line 2: the utterance 'u' is there twice"),
        ("a.jsonl", '{"id": "u", "ref": "x", "hyp": "x"}\n{"id": "v", "hyp": "y"}\n', "such as v, have none"),
        ("a.csv", "id,text\nu\n", "line 2: has another number of columns than the header's 2"),
        ("a.csv", 'id,text\nu,"x\n', "is malformed"),
        ("a.trn", "no id\n", r"line 1: ends in no \(ID\)"),
        ("a.trn", "{ a / b } (u)\n", "alternatives"),
        ("a.stm", "rec 1 anna 2.0 1.0 x\n", "ends at 1 s, before it begins at 2 s"),
        ("a.stm", "rec 1 anna\n", "expected `FILE CHANNEL SPEAKER START END"),
        ("a.ctm", "rec 1 nan 0.1 x\n", "'nan' is no time"),
        ("a.json", '{"id": "u", "text": "x"', "is not JSON"),
        ("a.json", '[{"session_id": "s", "words": "x"}]', "item 1: has no start_time"),
        ("a.csv", "id,text,text\nu,a,b\n", "two columns are called 'text'"),
        ("a.jsonl", '{"id": "u", "text": "x", "text": "y"}\n', "a key that is there twice"),
        ("a.jsonl", '{"id": "u", "hyp": "x", "ref": "\\udc80"}\n', "halves of surrogate pairs"),
        ("a.json", '{"wer": 1}', "a.json: names an id under none"),
        ("a.docx", "x", "cannot be told from its name.* Say so with --format: jsonl, json"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words) as error:
        read_texts(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_files_that_are_not_there_or_no_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_texts(tmp_path / "a.jsonl")
    (tmp_path / "b.trn").write_bytes(b"\xff\xfe (u)\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_texts(tmp_path / "b.trn")
    with pytest.raises(DataError, match="Is a directory"):
        read_texts(tmp_path, "trn")


def test_texts_that_do_not_pair(tmp_path: Path) -> None:
    (tmp_path / "said.trn").write_text("a (u)\n")
    (tmp_path / "heard.trn").write_text("a (v)\n")
    with pytest.raises(DataError, match=r"heard\.trn: .*1 without a hypothesis: u; 1 without a reference: v"):
        read_systems([tmp_path / "heard.trn"], tmp_path / "said.trn")
    with pytest.raises(DataError, match="give them with --references"):
        read_systems([tmp_path / "heard.trn"])
    (tmp_path / "said.stm").write_text(STM)
    with pytest.raises(DataError, match=r"said\.stm has texts by time, .*heard\.trn by utterance"):
        read_systems([tmp_path / "heard.trn"], tmp_path / "said.stm")
    (tmp_path / "heard.ctm").write_text("other 1 0.0 0.1 x\n")
    with pytest.raises(DataError, match=r"heard\.ctm: the recording 'other 1' is in no segment .*said\.stm"):
        read_systems([tmp_path / "heard.ctm"], tmp_path / "said.stm")


def write_evaluation(folder: Path, name: str, heard: dict[str, str], normaliser: str = "lower", **known: Any) -> Path:
    """Write what `asr evaluate -o` writes."""
    rows = [{"id": key, "reference": SAID[key], "hypothesis": text, **known} for key, text in heard.items()]
    (folder / f"{name}.jsonl").write_text(jsonl(rows))
    (folder / f"{name}.json").write_text(json.dumps({"signature": f"checkpoint:x|normaliser:{normaliser}|asr:1"}))
    return folder / f"{name}.jsonl"


def test_differently_normalised_results_are_not_compared_in_silence(tmp_path: Path) -> None:
    files = [write_evaluation(tmp_path, "one", SAID), write_evaluation(tmp_path, "two", HEARD, "keep")]
    with pytest.raises(DataError, match=r"one\.jsonl was normalised by lower, .*two\.jsonl by keep: .*--normaliser"):
        read_systems(files)
    corpus = read_systems(files, normaliser=build_normaliser("librispeech"))
    assert [one.score.wer.counts.errors for one in corpus.systems] == [0, 2]


def test_other_references_or_utterances_are_no_comparison(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path, "one", SAID)
    two = write_evaluation(tmp_path, "two", {"u1": "the cat sat"})
    with pytest.raises(
        DataError, match=r"two\.jsonl: is not of the same utterances .*: 2 are in one of them alone, such as u2"
    ):
        read_systems([one, two])
    (tmp_path / "three.jsonl").write_text(one.read_text().replace("cat", "dog"))
    with pytest.raises(DataError, match="scored against other references: of u1, 'the cat sat' and 'the dog sat'"):
        compare(read_systems([one, tmp_path / "three.jsonl"]).systems)


def test_utterances_may_be_in_any_order(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path, "one", SAID)
    two = write_evaluation(tmp_path, "two", dict(reversed(HEARD.items())))
    found = compare(read_systems([one, two]).systems).differences[0]
    assert (found.first, found.second) == ("one", "two")
    assert found.wer == pytest.approx(2 / 6)
    assert dict(found.utterances) == {"u2": 1, "u3": 1}
    assert dict(found.words) == {"the": -1}
    assert not found.is_real


def make_systems(rates: dict[str, float], n: int = 150) -> list[System]:
    rng = random.Random(3)
    said = {f"u{index}": " ".join(rng.choices("abcdefgh", k=rng.randint(4, 20))) for index in range(n)}

    def heard(rate: float) -> dict[str, str]:
        return {key: " ".join("x" if rng.random() < rate else word for word in text.split()) for key, text in said.items()}

    return [System.of(name, score(said, heard(rate))) for name, rate in rates.items()]


def test_each_two_systems_are_compared_together() -> None:
    comparison = compare(make_systems({"one": 0.2, "two": 0.2, "three": 0.4}))
    assert [(one.first, one.second) for one in comparison.differences] == [("one", "two"), ("one", "three"), ("two", "three")]
    assert [one.is_real for one in comparison.differences] == [False, True, True]
    assert comparison.differences[1].p > comparison.differences[1].test.p  # Holm's
    text = comparison.summary()
    assert "three against one: +" in text
    assert "a real difference" in text
    assert "chance would do" in text
    assert comparison.markdown().count("\n| ") == 3
    json.dumps(comparison.to_mapping(), allow_nan=False)


def test_groups_by_what_is_known() -> None:
    (system,) = make_systems({"one": 0.2}, 80)
    known = {
        row.id: {"speaker": "ab"[index % 2], "duration_s": 1.0 + index} for index, row in enumerate(system.score.utterances)
    }
    found = break_down(system.score, system.alignments, known)
    by = {name: [group for group in found.groups if group.attribute == name] for name in ("speaker", "words", "duration_s")}
    assert [(group.label, group.n_utterances) for group in by["speaker"]] == [("a", 40), ("b", 40)]
    assert [(group.label, group.n_utterances) for group in by["duration_s"]] == [
        ("1 to 20", 20), ("21 to 40", 20), ("41 to 60", 20), ("61 to 80", 20),
    ]  # fmt: skip
    for groups in by.values():
        assert sum(group.wer.counts.errors for group in groups) == system.score.wer.counts.errors
        assert sum(group.n_utterances for group in groups) == 80
    assert {group.attribute for group in found.groups} == {"speaker", "words", "duration_s", "words_per_s"}
    assert "by speaking rate (words/s)" in found.summary()


def test_words_by_how_often_they_are_said_and_by_the_vocabulary() -> None:
    system = System.of("one", score({"u": "a b b c c c d"}, {"u": "x b y c c c d"}))
    found = break_down(system.score, system.alignments, {}, frozenset("bcd")).words
    assert {group.label: (group.n_words, group.n_right) for group in found} == {
        "said once here": (2, 1),
        "said 2 to 9 times": (5, 4),
        "in the vocabulary": (6, 5),
        "outside of it": (1, 0),
    }
    assert found[0].line() == "said once here: 50.0 % right of 2"


def test_what_is_not_known_of_all_has_a_group_of_the_unknown() -> None:
    (system,) = make_systems({"one": 0.2}, 80)
    rows = system.score.utterances
    known: dict[str, dict[str, Any]] = {row.id: {"speaker": "a", "snr_db": 3.0 * at} for at, row in enumerate(rows[1:])}
    groups = break_down(system.score, system.alignments, known).groups
    assert [(group.label, group.n_utterances) for group in groups if group.attribute == "speaker"] == [
        ("a", 79),
        ("unknown", 1),
    ]
    assert [group.n_utterances for group in groups if group.attribute == "snr_db"] == [20, 19, 20, 20, 1]
    assert {group.attribute for group in groups} == {"speaker", "snr_db", "words"}


def test_speakers_are_asked_for_before_many_segments() -> None:
    """Each speaker prefers one of two systems that are equal on average: no segment of his is independent of the others."""
    rng = random.Random(1)
    said, speakers, heard = {}, {}, [{}, {}]  # type: ignore[var-annotated]
    for index in range(480):
        name, speaker = f"u{index}", index % 12
        words = [rng.choice("abcdefgh") for _ in range(12)]
        said[name], speakers[name] = " ".join(words), f"s{speaker}"
        for system, rate in enumerate((0.1, 0.3) if speaker % 2 else (0.3, 0.12)):
            heard[system][name] = " ".join("x" if rng.random() < rate else word for word in words)
    systems = [System.of(name, score(said, texts, speakers=speakers)) for name, texts in zip("AB", heard, strict=True)]
    (found,) = compare(systems, speakers).differences
    assert not found.is_real
    assert found.how.startswith("signs of 12 speakers; MAPSSWE over")
    assert compare(systems).differences[0].how.startswith("MAPSSWE, ")


def test_one_utterance_proves_nothing() -> None:
    systems = [System.of(name, score({"u": "a b c"}, {"u": text})) for name, text in (("A", "a b x"), ("B", "a b c"))]
    (found,) = compare(systems).differences
    assert (found.p, found.is_real) == (1.0, False)
    assert "[undefined], p = 1.000 (signs of the utterances; 1 segment, too few for MAPSSWE): chance would do" in found.line()


def test_the_best_of_several_readings(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "u", "ref": "a b c", "hyp": "a x x", "n_best": [{"text": "a x x"}, {"text": "a b x"}]},
        {"id": "v", "ref": "a", "hyp": "a"},
    ]
    (tmp_path / "a.jsonl").write_text(jsonl(rows))
    (system,) = read_systems([tmp_path / "a.jsonl"]).systems
    assert system.oracle is not None
    assert (system.score.wer.counts.errors, system.oracle.wer.counts.errors) == (2, 1)
    assert "best of the n best: WER 25.00 %" in compare([system]).summary()


def test_speakers_may_be_numbers_and_in_any_of_the_files(tmp_path: Path) -> None:
    for name, known in (("a", {}), ("b", {"speaker": 7})):
        rows = [{"id": f"u{index}", "ref": "a b", "hyp": "a x", **({"speaker": index} if known else {})} for index in range(12)]
        (tmp_path / f"{name}.jsonl").write_text(jsonl(rows))
    corpus = read_systems([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert [one.score.wer.interval.unit for one in corpus.systems] == ["speaker", "speaker"]


def test_what_is_to_be_known_of_texts_with_times(tmp_path: Path) -> None:
    (tmp_path / "said.stm").write_text(STM + "two 1 anna 0.0 2.0 yes\n")
    (tmp_path / "heard.stm").write_text("rec 1 x 0.0 4.0 good morning to you\n")
    notes = read_systems([tmp_path / "heard.stm"], tmp_path / "said.stm").notes
    assert "has nothing of 1 recordings, such as two 1" in notes[0]
    assert "has no times of words" in notes[1]
    (tmp_path / "words.ctm").write_text("rec 1 0.0 0.4 good\n")
    with pytest.raises(DataError, match="holds words with times, and no segments to score"):
        read_systems([tmp_path / "heard.stm"], tmp_path / "words.ctm")


def test_ignored_segments_take_no_words_of_others(tmp_path: Path) -> None:
    (tmp_path / "said.stm").write_text("r 1 a 0.0 2.0 one two\nr 1 b 0.0 3.0 ignore_time_segment_in_scoring\n")
    (tmp_path / "heard.ctm").write_text("r 1 0.1 0.4 one\nr 1 1.0 0.4 two\n")
    (system,) = read_systems([tmp_path / "heard.ctm"], tmp_path / "said.stm").systems
    assert system.score.wer.counts.errors == 0


def test_a_normaliser_that_is_not_known_is_told_of(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path, "one", SAID)
    (tmp_path / "two.jsonl").write_text(one.read_text())
    (note,) = read_systems([one, tmp_path / "two.jsonl"]).notes
    assert "was normalised by lower, and of" in note


def test_confusions() -> None:
    pairs = align_words(["a b c", "a b", "a"], ["x b c", "x", "a a"])
    found = count_confusions(pairs)
    assert found.substituted == (("a", "x", 2),)
    assert found.deleted == (("b", 1),)
    assert found.inserted == (("a", 1),)
    assert found.lines(5)[0] == "words most often substituted: a > x (2)"


def test_normalisers() -> None:
    assert build_normaliser("none").apply("A  b") == "A  b"
    assert build_normaliser("librispeech").apply("Mister O\u2019Neil, aged 5!") == "mister o'neil aged 5"
    with pytest.raises(ConfigError, match=r"'englsh' is no normaliser\. Did you mean english"):
        build_normaliser("englsh")


def test_whispers_normalisers() -> None:
    pytest.importorskip("whisper_normalizer")
    english = build_normaliser("english")
    assert (
        english.apply("Mr. Smith won't pay twenty one dollars for the colour") == "mister smith will not pay $21 for the color"
    )
    assert english.name.startswith("whisper-english-0.")
    assert build_normaliser("basic").apply("Voil\u00e0 [laughs], 3.5!") == "voil\u00e0 3 5"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(write_evaluation(tmp_path, name, heard, speaker="s")) for name, heard in (("one", SAID), ("two", HEARD))]
    out = tmp_path / "out.json"
    assert main(["compare", *files, "--details", "-o", str(out), "--fail-above", "20"]) == 1
    printed = capsys.readouterr()
    for part in (
        "one  WER 0.00 %",
        "two  WER 33.33 %",
        "two against one: +33.33 points",
        "utterances worse: u3 (+1), u2 (+1)",
        "words worse: the (-1)",
        "fewer than 10",
        "most often substituted: the > a (1)",
    ):
        assert part in printed.out
    assert "two: WER 33.33 % (2 errors in 6) is above --fail-above 20" in printed.err
    written = json.loads(out.read_text())
    assert [one["wer"]["S"] for one in written["systems"]] == [0, 1]
    assert written["details"]["two"]["confusions"]["inserted"] == [["oh", 1]]
    assert main(["compare", files[1], "--markdown"]) == 0
    assert "| two | 33.33 % [" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "none.jsonl")]) == 2
    assert main(["compare", files[0], "-o", str(tmp_path)]) == 2
    assert main(["compare", *files, "-o", str(tmp_path / "one.json")]) == 2  # the summary, which is read as well
    assert main(["compare", *files, "-o", "x.html", "--report", "./x.html"]) == 2
    assert "are both x.html" in capsys.readouterr().err
    assert main(["compare", *files, "-o", files[1]]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert Path(files[1]).read_text().count("\n") == 3


def test_what_evaluate_writes_is_what_compare_reads(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_evaluate import write_tiny_manifest

    manifests = write_tiny_manifest(tmp_path)
    command = ["evaluate", str(package), "tiny/dev", "--manifests", str(manifests), "--details", "-o", str(tmp_path / "out")]
    assert main([*command, "decoding.kind=beam", "decoding.n_best=3"]) == 0
    printed = capsys.readouterr().out
    assert "best of the n best: WER" in printed
    line = next(line for line in printed.splitlines() if line.startswith("WER"))
    assert main(["compare", str(tmp_path / "out" / "tiny-dev.jsonl")]) == 0
    assert line in capsys.readouterr().out
