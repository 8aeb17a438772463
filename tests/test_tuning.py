"""Tuning as a command: on what the network writes, and what it finds is what evaluation and transcription then use."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from tiny_lstm import write_tiny_lstm

import asr.files
import asr.tuning
from asr.cli import main
from asr.config import Config, DecodingConfig, TokensConfig
from asr.config_mapping import from_mapping
from asr.data.manifest import read_manifest, write_manifest
from asr.decoding import build_decoder
from asr.decoding.waveforms import decode_waveforms
from asr.errors import DataError
from asr.model.acoustic import SpeechModel
from asr.package.card import add_tuning
from asr.package.load import read_package
from asr.package.save import self_contained, update_package, write_package
from asr.scoring import score
from asr.text import Normaliser, build_tokenizer
from asr.tuning import Posteriors, objective, run, tuner

RATE = 16000


# --- the network's output


def recording(path: Path, seconds: float, seed: int) -> Recording:
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0.01, 0.3, 40), round(seconds * RATE / 40))
    soundfile.write(path, loudness * rng.normal(0, 0.3, len(loudness)), RATE)
    return Recording.from_file(path, recording_id=path.stem)


def cut(audio: Recording, text: str) -> MonoCut:
    supervision = SupervisionSegment(audio.id, audio.id, 0.0, audio.duration, text=text)
    return MonoCut(audio.id, 0.0, audio.duration, channel=0, recording=audio, supervisions=[supervision])


@pytest.fixture
def manifests(package: Path, tmp_path: Path) -> Path:
    """A folder with the manifest ``tiny/dev``: noise, and of what the network writes for it every third word is missing."""
    loaded = read_package(package)
    cuts = []
    for index in range(10):
        audio = recording(tmp_path / f"u{index}.wav", 0.6 + 0.23 * index, index)
        waveform = soundfile.read(tmp_path / f"u{index}.wav", dtype="float32")[0]
        (hypothesis,) = decode_waveforms(loaded.model, build_decoder(DecodingConfig(), loaded.tokenizer), [waveform])
        cuts.append(cut(audio, " ".join(word for n, word in enumerate(hypothesis.text.split()) if n % 3 != 1)))
    write_manifest(cuts, tmp_path / "manifests" / "tiny" / "dev.jsonl.gz")
    return tmp_path / "manifests"


def compute(package: Path, cuts: CutSet, limit_bytes: int = 10**9) -> Posteriors:
    return Posteriors.compute(cuts, read_package(package).model, batch_s=4.0, limit_bytes=limit_bytes)


def test_output_is_that_of_the_network_in_memory_and_on_disk(package: Path, manifests: Path) -> None:
    cuts = read_manifest("tiny/dev", manifests)
    in_memory, on_disk = compute(package, cuts), compute(package, cuts, 0)
    assert (in_memory.on_disk, on_disk.on_disk) == (False, True)
    assert in_memory.ids == on_disk.ids == tuple(cut.id for cut in cuts)
    assert in_memory.n_bytes == sum(row.nbytes for row in in_memory.rows)
    model = read_package(package).model
    for utterance, one, other in zip(cuts, in_memory.rows, on_disk.rows, strict=True):
        waveform = torch.from_numpy(soundfile.read(utterance.recording.sources[0].source, dtype="float32")[0])
        with torch.inference_mode():
            alone, n_frames = model(waveform[None], torch.tensor([len(waveform)]))
        assert one.shape == (int(n_frames), model.n_tokens)
        assert one == pytest.approx(alone[0, : int(n_frames)].numpy(), abs=1e-4)
        assert np.array_equal(one, other)


def test_batches_hold_every_chosen_utterance_once_unchanged(package: Path, manifests: Path) -> None:
    posteriors = compute(package, read_manifest("tiny/dev", manifests))
    chosen = [7, 0, 3]
    found = {}
    for batch, log_probs, n_frames in posteriors.batches(chosen):
        found.update({index: row[:n].numpy() for index, row, n in zip(batch, log_probs, n_frames.tolist(), strict=True)})
    assert sorted(found) == [0, 3, 7]
    assert all(np.array_equal(found[index], posteriors.rows[index]) for index in chosen)


def test_priors_are_mean_probabilities(package: Path, manifests: Path) -> None:
    posteriors = compute(package, read_manifest("tiny/dev", manifests))
    mean = np.exp(np.concatenate(posteriors.rows).astype(np.float64)).mean(axis=0)
    assert posteriors.log_priors() == pytest.approx(np.log(mean), abs=1e-4)
    assert np.exp(posteriors.log_priors()).sum() == pytest.approx(1.0, abs=1e-3)


def test_unreadable_audio_is_named(package: Path, manifests: Path, tmp_path: Path) -> None:
    cuts = read_manifest("tiny/dev", manifests)
    (tmp_path / "u3.wav").write_bytes(b"no audio")
    posteriors = compute(package, cuts)
    assert list(posteriors.left_out) == ["u3"]
    assert "u3" not in posteriors.ids
    assert len(posteriors.ids) == 9
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="no utterance could be recognised"):
        compute(package, cuts)


# --- the command


@pytest.fixture
def mine(package: Path, tmp_path: Path) -> Path:
    """A copy of the package, to be changed."""
    return Path(shutil.copytree(package, tmp_path / "mine"))


@pytest.fixture
def arpa(package: Path, manifests: Path, tmp_path: Path) -> Path:
    """A word unigram model with back-off of the transcripts' words."""
    words = sorted({word for cut in read_manifest("tiny/dev", manifests) for word in cut.supervisions[0].text.split()})
    path = tmp_path / "elsewhere" / "words.arpa"
    path.parent.mkdir()
    write_arpa(path, words)
    return path


def write_arpa(path: Path, words: list[str]) -> None:
    lines = [f"{-math.log10(len(words) + 3):.4f}\t{word}\t-0.3" for word in ("</s>", "<unk>", *words)]
    text = ["\\data\\", f"ngram 1={len(words) + 3}", "ngram 2=1", "", "\\1-grams:", "-99\t<s>\t-0.3", *lines]
    path.write_text("\n".join([*text, "", "\\2-grams:", f"-0.5\t{words[0]} {words[1]}", "", "\\end\\", ""]))


def tune(package: Path, manifests: Path, *more: str) -> int:
    return main(["tune", str(package), "tiny/dev", "--manifests", str(manifests), *more])


def line_of(printed: str, start: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith(start)]
    return line


def score_lines(printed: str) -> list[str]:
    decoder = line_of(printed, "signature ").split("|decoder:")[1].split("|")[0]
    return [line_of(printed, "WER "), line_of(printed, "CER "), decoder]


def test_evaluate_and_transcribe_use_what_was_tuned(
    mine: Path, manifests: Path, arpa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    assert main(["evaluate", str(mine), "tiny/dev", "--manifests", str(manifests), "-o", str(before)]) == 0
    capsys.readouterr()
    settings = ["decoding.kind=beam_ngram", f"decoding.lm={arpa}", "decoding.beam=20"]
    assert tune(mine, manifests, *settings, "--trials", "12", "--subset", "4") == 0
    tuned = capsys.readouterr().out
    shutil.rmtree(arpa.parent)  # the package needs nothing outside it
    monkeypatch.chdir(tmp_path)
    after = tmp_path / "after"
    assert main(["evaluate", str(mine), "tiny/dev", "--manifests", str(manifests), "-o", str(after)]) == 0
    assert score_lines(capsys.readouterr().out) == score_lines(tuned)
    rows = [json.loads(line) for line in (after / "tiny-dev.jsonl").read_text().splitlines()]
    assert main(["transcribe", "--no-vad", "--model", str(mine), *(str(tmp_path / f"{row['id']}.wav") for row in rows)]) == 0
    printed = capsys.readouterr().out
    assert all(row["hypothesis"] in printed for row in rows)
    old = [json.loads(line)["hypothesis"] for line in (before / "tiny-dev.jsonl").read_text().splitlines()]
    assert old != [row["hypothesis"] for row in rows]


@pytest.mark.parametrize("kind", ["rescore", "fusion"])
def test_lstm_language_models_are_weighted_and_copied(
    kind: str, mine: Path, manifests: Path, arpa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lstm = write_tiny_lstm(tmp_path / "elsewhere" / "lstm", read_package(mine).tokenizer.form, ("one", "two"))
    settings = [f"decoding.kind={kind}", f"decoding.lstm={lstm}", f"decoding.lm={arpa}", "decoding.beam=10"]
    assert tune(mine, manifests, *settings, "--keys", "decoding.lstm_weight=0.5:3", "--trials", "5") == 0
    tuned = capsys.readouterr().out
    trials = [json.loads(line)["settings"] for line in (mine / "tuning" / "tuning.jsonl").read_text().splitlines()]
    assert len({trial["lstm_weight"] for trial in trials}) > 1
    shutil.rmtree(arpa.parent)
    decoding = read_package(mine).config.decoding
    assert (decoding.kind, decoding.lstm, decoding.lm) == (kind, "language/lstm", "language/ngram.arpa")
    assert main(["evaluate", str(mine), "tiny/dev", "--manifests", str(manifests)]) == 0
    assert score_lines(capsys.readouterr().out) == score_lines(tuned)


def test_files_of_a_tuning(mine: Path, manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = read_package(mine).facts
    assert tune(mine, manifests, "--trials", "12", "--subset", "4") == 0
    printed = capsys.readouterr().out
    assert "of memory" in printed
    assert line_of(printed, "before: WER ")
    trials = [json.loads(line) for line in (mine / "tuning" / "tuning.jsonl").read_text().splitlines()]
    assert [trial["trial"] for trial in trials] == list(range(1, len(trials) + 1))
    assert len(trials) <= 12
    best = min((trial for trial in trials if trial["all"]), key=lambda trial: trial["wer"])
    assert sum(best["words"][letter] for letter in "SDI") / best["words"]["N"] == pytest.approx(best["wer"], abs=1e-6)
    assert (mine / "tuning" / "tuning.png").read_bytes().startswith(b"\x89PNG")
    tuned = read_package(mine)
    assert f"{100 * best['wer']:.2f} %" in line_of((mine / "README.md").read_text(), "| WER of the tuned decoder there |")
    assert {name: getattr(tuned.config.decoding, name) for name in best["settings"]} == best["settings"]
    assert len(tuned.config.decoding.priors) == len(tuned.tokenizer)
    assert tuned.config.decoding.confidence_scale != 1.0
    assert tuned.facts["tuning"]["manifests"] == ["tiny/dev"]
    assert {name: tuned.facts[name] for name in facts} == dict(facts)


def test_a_fixed_setting_is_kept_and_not_searched(mine: Path, manifests: Path) -> None:
    arguments = ["decoding.blank_penalty=0.7", "decoding.jobs=1", "--trials", "6", "--subset", "0"]
    assert tune(mine, manifests, *arguments) == 0
    assert read_package(mine).config.decoding.blank_penalty == 0.7
    trials = [json.loads(line) for line in (mine / "tuning" / "tuning.jsonl").read_text().splitlines()]
    assert all(list(trial["settings"]) == ["prior_weight"] and trial["all"] for trial in trials)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_changes_nothing_and_the_records_go_where_they_are_asked_for(
    mine: Path, manifests: Path, tmp_path: Path
) -> None:
    old = contents(mine)
    assert tune(mine, manifests, "--trials", "3", "--dry-run", "-o", str(tmp_path / "out")) == 0
    assert contents(mine) == old
    assert sorted(contents(tmp_path / "out")) == ["tuning.jsonl", "tuning.png"]


def test_unreadable_audio_is_reported_and_the_rest_is_tuned_on(
    mine: Path, manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "u3.wav").write_bytes(b"no audio")
    assert tune(mine, manifests, "--trials", "2") == 3
    printed = capsys.readouterr()
    assert "u3" in printed.err
    assert "tiny/dev: 9 utterances" in printed.out


class Interrupted:
    """Stands for the decoder's builder; the user interrupts when so many decoders were built."""

    def __init__(self, build: Callable[..., Any], n: int) -> None:
        self.build, self.left = build, n

    def __call__(self, *args: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.build(*args)


# One decoder is built as a check, another for the settings before.
@pytest.mark.parametrize(("n_trials", "whole"), [(3, False), (13, True)])
def test_an_interrupted_search_keeps_the_best(
    n_trials: int,
    whole: bool,
    mine: Path,
    manifests: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objective, "build_decoder", Interrupted(build_decoder, n_trials + 2))
    assert tune(mine, manifests, "--trials", "20", "--subset", "4") == 130
    printed = capsys.readouterr()
    assert f"interrupted after {n_trials} trials; the best so far was kept" in printed.err
    trials = [json.loads(line) for line in (mine / "tuning" / "tuning.jsonl").read_text().splitlines()]
    assert len(trials) == n_trials
    assert any(trial["all"] for trial in trials) == whole
    assert ("no setting was tried on all 10 utterances" in printed.out) != whole
    best = min((trial for trial in trials if trial["all"] == whole), key=lambda trial: trial["wer"])
    assert line_of(printed.out, "WER ").startswith(f"WER {100 * best['wer']:.2f} %")
    tuned = read_package(mine)
    assert {name: getattr(tuned.config.decoding, name) for name in best["settings"]} == best["settings"]


@pytest.mark.parametrize("changed", ["model.safetensors", "config.yaml"])
def test_a_package_that_changes_meanwhile_is_left_alone(
    mine: Path, manifests: Path, changed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another training or tuning has written it: what was found is not for these weights, or would undo the other's."""
    search = tuner.tune

    def slow(*args: Any, **settings: Any) -> Any:
        found = search(*args, **settings)
        path = mine / changed
        path.write_bytes(
            path.read_bytes().replace(b"name: nonsense", b"name: another") + (b"" if path.suffix == ".yaml" else b"x")
        )
        return found

    monkeypatch.setattr(run, "tune", slow)
    assert tune(mine, manifests, "--trials", "1") == 2
    assert "was changed by another process since tuning began" in capsys.readouterr().err
    assert not (mine / "tuning").exists()


def test_an_interruption_before_the_first_trial_changes_nothing(
    mine: Path, manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = contents(mine)
    monkeypatch.setattr(objective, "build_decoder", Interrupted(build_decoder, 2))
    assert tune(mine, manifests) == 130
    assert contents(mine) == old


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny/dve"], ("manifest 'tiny/dve'", "tiny/dev")),
        (["empty/dev"], ("empty",)),
        ([], ("no manifest is named",)),
        (["tiny/dev", "decoding.bean=3"], ("decoding.bean", "decoding.beam")),
        (["tiny/dev", "--keys", "decoding.bean=3:4"], ("decoding.bean", "unknown key")),
        (["tiny/dev", "--keys", "decoding.blank_penalty=4:3"], ("upside down",)),
        (["tiny/dev", "--trials", "0"], ("--trials: '0'",)),
        (["tiny/dev", "--subset", "-1"], ("--subset: '-1'",)),
        (["tiny/dev", "--seed", "-1"], ("--seed: '-1'",)),
        (["tiny/dev", "--batch-seconds", "nan"], ("--batch-seconds: 'nan'",)),
        (["tiny/dev", "--cache-gib", "-1"], ("--cache-gib: '-1'",)),
        (["tiny/dev", "decoding.kind=beam_ngram"], ("decoding.lm",)),
        (["tiny/dev", "decoding.kind=beam_ngram", "decoding.lm=nowhere.arpa"], ("nowhere.arpa",)),
    ],
)
def test_what_cannot_be_used_is_named(
    arguments: list[str], words: tuple[str, ...], mine: Path, manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (manifests / "empty").mkdir()
    (manifests / "empty" / "dev.jsonl").write_text("")
    old = contents(mine)
    arguments = arguments or ["decoding.kind=greedy"]
    assert main(["tune", str(mine), "--manifests", str(manifests), *arguments]) == 2
    printed = capsys.readouterr()
    assert all(word in printed.err for word in words), printed.err
    assert "trial" not in printed.out
    assert contents(mine) == old


def test_a_read_only_package_is_refused_before_any_work(
    mine: Path, manifests: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permissions do not bind the superuser, as whom tests may run.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != mine)
    assert tune(mine, manifests, "--trials", "2") == 2
    printed = capsys.readouterr()
    assert "read-only" in printed.err
    assert not printed.out


# --- what is written into the package


def test_an_update_is_whole_or_not_at_all(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, old = read_package(mine), contents(mine)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("a")
    files: dict[str, Path | bytes] = {"language/lm": tmp_path / "folder", "language/b": b"b"}

    def fail(*_: object) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(asr.files, "_exchange", fail)
        with pytest.raises(OSError, match="no space"):
            update_package(mine, loaded.config, "new card", files=files)
    assert contents(mine) == old
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    update_package(mine, loaded.config, "new card", files=files, facts={**loaded.facts, "new": 1})
    new = contents(mine)
    assert new.keys() - old.keys() == {"language/lm/a", "language/b"}
    assert new["README.md"] == b"new card"
    assert [new[name] for name in ("model.safetensors", "tokenizer.json")] == [
        old[name] for name in ("model.safetensors", "tokenizer.json")
    ]
    assert read_package(mine).facts == {**loaded.facts, "new": 1}
    update_package(mine, loaded.config, "newer card", files={"language/lm": b"now a file"})
    assert contents(mine)["language/lm"] == b"now a file"


def test_models_from_elsewhere_are_copied_and_those_inside_stay(tmp_path: Path) -> None:
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    for folder in (package / "language" / "ngram", elsewhere / "novels"):
        folder.mkdir(parents=True)
    for name in ("words.arpa.gz", "v1.5.bin", "lexicon.txt"):
        (elsewhere / name).touch()
    inside = DecodingConfig(lm="language/ngram")
    assert self_contained(inside, package) == (inside, {})
    assert self_contained(DecodingConfig(lm=str(package / "language" / "ngram")), package) == (inside, {})
    for name, field, place in (
        ("novels", "lm", "language/ngram"),
        ("words.arpa.gz", "lm", "language/ngram.arpa.gz"),
        ("v1.5.bin", "lm", "language/ngram.bin"),
        ("novels", "lstm", "language/lstm"),
        ("lexicon.txt", "lexicon_file", "language/lexicon.tsv"),
    ):
        config, copies = self_contained(from_mapping({"decoding": {field: str(elsewhere / name)}}).decoding, package)
        assert getattr(config, field) == place
        assert copies == {place: elsewhere / name}


@pytest.mark.parametrize("kind", ["beam_ngram", "fusion"])
def test_pronunciations_by_a_voice_are_written_down(
    kind: str, package: Path, manifests: Path, arpa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["one", "two", "three"]
    write_arpa(arpa, words)
    lstm = write_tiny_lstm(tmp_path / "lstm", Normaliser(TokensConfig().alphabet), words)
    model = f"decoding.lm={arpa}" if kind == "beam_ngram" else f"decoding.lstm={lstm}"
    config = Config(tokens=TokensConfig(kind="phones"))
    config.frontend, config.model = read_package(package).config.frontend, read_package(package).config.model
    tokenizer = build_tokenizer(config.tokens, lambda: ["one two three four"])
    torch.manual_seed(1)
    mine = write_package(
        tmp_path / "phones", config, SpeechModel(config.frontend, config.model, len(tokenizer)), tokenizer, "card"
    )
    cuts = read_manifest("tiny/dev", manifests)
    for number, one in enumerate(cuts):
        one.supervisions[0].text = " ".join(words[: 1 + number % 3])
    write_manifest(cuts, manifests / "tiny" / "dev.jsonl.gz")
    assert tune(mine, manifests, f"decoding.kind={kind}", model, "decoding.beam=5", "--trials", "2") == 0
    tuned = score_lines(capsys.readouterr().out)
    assert read_package(mine).config.decoding.lexicon_file == "language/lexicon.tsv"
    lexicon = (mine / "language" / "lexicon.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lexicon] == words
    assert lexicon[1] == "two\tt uː"
    assert main(["evaluate", str(mine), "tiny/dev", "--manifests", str(manifests)]) == 0
    assert score_lines(capsys.readouterr().out) == tuned


def test_a_second_tuning_replaces_the_lines_of_the_first() -> None:
    scored = score({"a": "one two three"}, {"a": "one too three"})
    card = "# name\n\n| | |\n|---|---|\n| decoder | greedy |\n\n## Use\n\n| other | table |\n"
    once = add_tuning(card, decoder="beam|20", manifests=["x/dev"], score=scored)
    rows = [
        "| tuned decoder | beam\\|20 |",
        "| tuned on | x/dev, 1 utterances |",
        f"| WER of the tuned decoder there | {scored.wer.line('').strip()} |",
        f"| CER of the tuned decoder there | {scored.cer.line('').strip()} |",
    ]
    assert once == card.replace("| decoder | greedy |\n", "\n".join(["| decoder | greedy |", *rows, ""]))
    assert add_tuning(once, decoder="beam|20", manifests=["x/dev"], score=scored) == once
    plain = add_tuning("only words\n", decoder="beam|20", manifests=["x/dev"], score=scored)
    assert plain.splitlines() == ["only words", "", "| | |", "|---|---|", *rows]
