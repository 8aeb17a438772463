"""`asr evaluate`: scores of a corpus, whatever the batches, with nothing left out in silence."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from asr.cli import main
from asr.data.manifest import read_manifest, write_manifest
from asr.decoding import build_decoder
from asr.errors import DataError
from asr.package.load import read_package
from asr.scoring import score
from asr.scoring.evaluation import Evaluation, evaluate
from asr.scoring.levels import estimate_snr
from asr.scoring.normalisers import ScoringNormaliser

RATE = 16000
TEXTS = ("HELLO world", "it\u2019s one, two", "", "room 42", "a")


def write_tiny_manifest(tmp_path: Path) -> Path:
    """Write the manifest ``tiny/dev``: five utterances of different lengths, not in their order."""
    rng = np.random.default_rng(0)
    cuts = []
    for index, (text, seconds) in enumerate(zip(TEXTS, (2.0, 0.7, 3.1, 1.0, 2.5), strict=True)):
        path = tmp_path / f"u{index}.wav"
        loudness = np.repeat(rng.uniform(0.01, 0.3, 40), round(seconds * RATE / 40))
        soundfile.write(path, loudness * rng.normal(0, 0.3, len(loudness)), RATE)
        recording = Recording.from_file(path, recording_id=f"u{index}")
        supervision = SupervisionSegment(f"u{index}", f"u{index}", 0.0, recording.duration, text=text)
        cuts.append(MonoCut(f"u{index}", 0.0, recording.duration, channel=0, recording=recording, supervisions=[supervision]))
    write_manifest(cuts, tmp_path / "manifests" / "tiny" / "dev.jsonl.gz")
    return tmp_path / "manifests"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    return write_tiny_manifest(tmp_path)


def evaluated(package: Path, manifests: Path, batch_s: float) -> Evaluation:
    loaded = read_package(package)
    decoder = build_decoder(loaded.config.decoding, loaded.tokenizer)
    cuts = read_manifest("tiny/dev", manifests)
    return evaluate(cuts, loaded.model, decoder, corpus="tiny/dev", checkpoint=loaded.checkpoint_hash, batch_s=batch_s)


def test_results_are_the_same_whatever_the_batch(package: Path, manifests: Path) -> None:
    one, several, all_together = (evaluated(package, manifests, batch_s) for batch_s in (0.1, 5.0, 1000.0))
    assert one.score == several.score == all_together.score
    assert one.signature == all_together.signature
    assert len({row.hypothesis for row in one.score.utterances}) > 2


def test_both_sides_are_normalised_and_unknown_characters_are_counted(package: Path, manifests: Path) -> None:
    result = evaluated(package, manifests, 160.0)
    references = {row.id: row.reference for row in result.score.utterances}
    assert references == {"u0": "hello world", "u1": "it's one two", "u2": "", "u3": "room 42", "u4": "a"}
    assert result.score.wer.counts.reference == 2 + 3 + 0 + 2 + 1
    assert result.unknown == ("u3",)
    assert result.audio_s == pytest.approx(9.3)
    assert "cannot write: 1" in result.summary()


def test_command_prints_and_writes(package: Path, manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["evaluate", str(package), "tiny/dev", "decoding.kind=greedy", "--manifests", str(manifests)]
    assert main([*command, "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "tiny/dev: 5 utterances, 0.003 h",
        "WER ",
        "CER ",
        " S=",
        " D=",
        " I=",
        " N=8",
        "95 % CI [",
        "real-time factor",
    ):
        assert part in printed
    assert "signature checkpoint:" in printed
    assert sorted(path.name for path in out.iterdir()) == ["tiny-dev.json", "tiny-dev.jsonl"]
    rows = [json.loads(line) for line in (out / "tiny-dev.jsonl").read_text().splitlines()]
    summary = json.loads((out / "tiny-dev.json").read_text())
    assert [row["id"] for row in rows] == ["u0", "u1", "u2", "u3", "u4"]
    texts, known = {"id", "reference", "hypothesis"}, {"duration_s", "snr_db", "audio", "start_s"}
    assert {*texts, *known, "words", "characters", "log_score"} == rows[0].keys()
    for letter in "SDIN":
        assert summary["wer"][letter] == sum(row["words"][letter] for row in rows)
        assert summary["cer"][letter] == sum(row["characters"][letter] for row in rows)
    assert summary["signature"] in printed
    assert summary["utterances"] == 5


def test_both_sides_may_be_brought_into_another_form(
    package: Path, manifests: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ScoringNormaliser("words-1.0", lambda text: "word" if text else "")
    monkeypatch.setattr("asr.scoring.normalisers.build_normaliser", lambda name: {"librispeech": words}[name])
    command = ["evaluate", str(package), "tiny/dev", "--manifests", str(manifests), "decoding.kind=greedy"]
    assert main([*command, "--normaliser", "librispeech"]) == 0
    printed = capsys.readouterr().out
    assert "N=4" in printed
    assert "|normaliser:nfkc+lower+punctuation-remove+words-1.0|" in printed


def test_the_manifest_that_is_read_is_not_overwritten(
    package: Path, manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = manifests / "tiny" / "dev.jsonl"
    plain.write_bytes(gzip.decompress((manifests / "tiny" / "dev.jsonl.gz").read_bytes()))
    before = plain.read_bytes()
    assert main(["evaluate", str(package), str(plain), "-o", str(plain.parent)]) == 2
    assert f"{plain}: is read here, and would be overwritten" in capsys.readouterr().err
    assert plain.read_bytes() == before


def test_other_readings_are_written_and_settings_take_two_forms(package: Path, manifests: Path, tmp_path: Path) -> None:
    settings = ["decoding.kind=beam", "--decoding", "n_best=3"]
    command = ["evaluate", str(package), "tiny/dev", *settings, "--manifests", str(manifests), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    for line in (tmp_path / "out" / "tiny-dev.jsonl").read_text().splitlines():
        row = json.loads(line)
        scores = [reading["log_score"] for reading in row["n_best"]]
        assert (len(scores), scores) == (3, sorted(scores, reverse=True))
        assert (row["n_best"][0]["text"], scores[0]) == (row["hypothesis"], row["log_score"])


def test_bad_audio_is_named_counted_and_left_out(
    package: Path, manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "u1.wav").write_bytes(b"RIFF")
    (tmp_path / "u3.wav").unlink()
    out = tmp_path / "out"
    assert main(["evaluate", str(package), "tiny/dev", "--manifests", str(manifests), "-o", str(out)]) == 3
    captured = capsys.readouterr()
    assert "u1.wav" in captured.err
    assert "u3.wav" in captured.err
    assert "tiny/dev: 3 utterances" in captured.out
    assert "left out of the score: 2 utterances" in captured.out
    assert "|utterances:3|" in captured.out
    assert json.loads((out / "tiny-dev.json").read_text())["left_out"].keys() == {"u1", "u3"}


def test_threads_are_used(package: Path, manifests: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert main(["evaluate", str(package), "tiny/dev", "--manifests", str(manifests), "--threads", str(before + 1)]) == 0
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("damage", [False, True])
def test_a_rate_above_the_limit_fails_after_all_is_written(
    damage: bool, package: Path, manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nonsense inserts words, so there is no limit of 100 %: the package has some WER, and it is met by itself."""
    if damage:
        (tmp_path / "u1.wav").write_bytes(b"RIFF")
    write_manifest(read_manifest("tiny/dev", manifests), manifests / "tiny" / "test.jsonl.gz")
    out = tmp_path / "out"
    command = ["evaluate", str(package), "tiny/dev", "tiny/test", "--manifests", str(manifests), "-o", str(out), "--fail-above"]
    assert main([*command, "0"]) == 1
    captured = capsys.readouterr()
    counts = json.loads((out / "tiny-test.json").read_text())["wer"]
    errors = counts["S"] + counts["D"] + counts["I"]
    said = f"WER {100 * errors / counts['N']:.2f} % ({errors} errors in {counts['N']}) is above --fail-above 0"
    lines = [f"asr evaluate: tiny/dev: {said}", f"asr evaluate: tiny/test: {said}"]
    assert captured.err.splitlines()[-2:] == lines
    assert main([*command, repr(100 * errors / counts["N"])]) == (3 if damage else 0)
    assert "--fail-above" not in capsys.readouterr().err


def test_nothing_left_to_score(package: Path, manifests: Path, tmp_path: Path) -> None:
    for path in tmp_path.glob("u*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="no utterance could be recognised"):
        evaluated(package, manifests, 160.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decoding.kind=greedy"], "no manifest is named"),
        (["tiny/dev", "tiny/dev"], "another one's results"),
        (["tiny/dve"], "tiny/dev"),
        (["tiny/dev", "decoding.kind=beem"], "decoding.kind"),
        (["tiny/dev", "decoding.knd=greedy"], "decoding.kind"),
        (["tiny/dev", "--batch-seconds", "0"], "--batch-seconds: '0'"),
        (["tiny/dev", "--device", "abacus"], "abacus"),
        (["tiny/dev", "--threads", "0"], "--threads: '0' is not a whole number from 1 to 4096"),
        (["tiny/dev", "--fail-above", "-1"], "--fail-above: '-1' is not a number of per cent, at least 0"),
        (["tiny/dev", "--fail-above", "nan"], "--fail-above: 'nan' is not a number of per cent"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, package: Path, manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(package), *arguments, "--manifests", str(manifests)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_signature_changes_with_the_texts(package: Path, manifests: Path) -> None:
    before = evaluated(package, manifests, 160.0).signature
    cuts = read_manifest("tiny/dev", manifests)
    changed = []
    for cut in cuts:
        cut.supervisions[0].text += "x"
        changed.append(cut)
    write_manifest(CutSet.from_cuts(changed), manifests / "tiny" / "dev.jsonl.gz")
    after = evaluated(package, manifests, 160.0).signature
    assert before != after
    assert before.split("|")[0] == after.split("|")[0]


def test_of_a_model_that_writes_sounds_these_are_confused(package: Path, manifests: Path) -> None:
    result = replace(evaluated(package, manifests, 160.0), writes_words=False)
    said = score({"u": "ab c"}, {"u": "ax c"})
    found = replace(result, score=said).details()
    assert found.confusions.substituted == (("b", "x", 1),)
    assert [group.n_right for group in found.words if group.n_words] == [1]


@pytest.mark.parametrize("wanted_db", [0.0, 10.0, 30.0])
def test_noise_is_estimated_from_the_pauses(wanted_db: float) -> None:
    rng = np.random.default_rng(1)
    speech = rng.normal(0, 0.1, 4 * RATE) * np.repeat([0, 1, 1, 0, 1, 0, 1, 1], RATE // 2)
    noise = rng.normal(0, 1, len(speech))
    noise *= np.sqrt(speech.var() / 10 ** (wanted_db / 10))
    found = estimate_snr((speech + noise).astype(np.float32), RATE)
    assert found == pytest.approx(wanted_db, abs=1.0)


def test_noise_where_there_is_none_or_nothing_else() -> None:
    steady = np.random.default_rng(1).normal(0, 0.1, RATE)
    assert estimate_snr(steady, RATE) == pytest.approx(-10, abs=4)
    assert estimate_snr(np.concatenate([steady, np.zeros(RATE)]), RATE) == 60.0
    assert estimate_snr(np.zeros(RATE), RATE) is None
    assert estimate_snr(steady[:100], RATE) is None
