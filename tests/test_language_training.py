"""Training n-gram models, their packages, and the command `asr lm`."""

from __future__ import annotations

import itertools
import lzma
import math
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from asr.cli import main
from asr.config import conf_dir
from asr.errors import ConfigError, DataError, Failure, PackageError
from asr.language import NgramModel, load_language_model
from asr.language import lmplz as lmplz_module
from asr.language.config import (
    LstmTraining,
    NgramTraining,
    compose_training,
    describe_training,
)
from asr.language.lmplz import find_program
from asr.language.ngram_training import train_ngram
from asr.option import leaves

SENTENCES = ["The cat sat.", "the cat, ran", "a dog sat", "the dog ran", "a cat sat", "the cat sat"]


@pytest.fixture
def programs() -> None:
    try:
        find_program("lmplz")
        find_program("build_binary")
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt.xz"
    path.write_bytes(lzma.compress("\n".join(SENTENCES).encode()))
    return path


def train(text: Path, *overrides: str) -> Path:
    output = text.parent / "lm"
    config = compose_training([f"text=[{text}]", f"output={output}", "lm.memory_gib=0.1", *overrides])
    assert isinstance(config, NgramTraining)
    return train_ngram(config)


def model_of(folder: Path) -> NgramModel:
    model = load_language_model(folder)
    assert isinstance(model, NgramModel)
    return model


def discounts(counts: Mapping[Any, int]) -> list[float]:
    """Return what is taken from n-grams counted once, twice and more often (Chen and Goodman 1998, eq. 26).

    Where the estimates are undefined or out of range, those that lmplz falls back to.
    """
    n = Counter(counts.values())
    if not all(n[k] for k in (1, 2, 3)):
        return [0.0, 0.5, 1.0, 1.5]
    y = n[1] / (n[1] + 2 * n[2])
    estimated = [0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
    return estimated if all(0 <= d <= k for k, d in enumerate(estimated)) else [0.0, 0.5, 1.0, 1.5]


def bigram_by_hand(history: str, word: str, vocabulary: set[str]) -> float:
    """Interpolated modified Kneser-Ney: bigrams by their counts, unigrams by the number of words they follow."""
    lines = [["<s>", *(w if w in vocabulary else "<unk>" for w in clean(line)), "</s>"] for line in SENTENCES]
    bigrams = Counter(pair for line in lines for pair in itertools.pairwise(line))
    unigrams = Counter(after for _, after in bigrams)
    # Below the unigrams a uniform distribution: over the words, the end, the class of unknown words, and lmplz's own <unk>.
    lower = interpolate(word, unigrams, discounts(unigrams), 1 / (len(vocabulary) + 3))
    followers = Counter({after: n for (before, after), n in bigrams.items() if before == history})
    return interpolate(word, followers, discounts(bigrams), lower)


def interpolate(word: str, counts: Counter[str], discount: list[float], lower: float) -> float:
    total = counts.total()
    freed = sum(discount[min(n, 3)] for n in counts.values()) / total
    return (counts[word] - discount[min(counts[word], 3)]) / total + freed * lower


def clean(line: str) -> list[str]:
    return line.lower().replace(".", "").replace(",", "").split()


@pytest.mark.usefixtures("programs")
def test_probabilities_are_those_of_kneser_ney(text: Path) -> None:
    folder = train(text, "lm.order=2", "lm.prune=[0]", "lm.vocabulary_size=4", "lm.quantisation_bits=0")
    model = model_of(folder)
    assert tuple(model.words) == ("cat", "sat", "the", "a")  # 4, 4, 4 and 2 times; dog and ran are unknown
    for history in ("<s>", "the", "a", "cat"):
        probs = [math.exp(p) for p in model.next_log_probs([] if history == "<s>" else [history])]
        for word, p in zip([*model.words, "</s>", "<unk>"], probs, strict=True):
            assert p == pytest.approx(bigram_by_hand(history, word, set(model.words)), rel=1e-3), (history, word)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("overrides", "name"),
    [([], "ngram.bin"), (["lm.quantisation_bits=0"], "ngram.bin"), (["lm.binary=probing"], "ngram.bin")],
)
def test_every_format_gives_the_same_scores(text: Path, overrides: list[str], name: str) -> None:
    expected = model_of(train(text, "lm.order=3", "lm.prune=[0]", "lm.format=arpa"))
    assert expected.path.name == "ngram.arpa"
    folder = train(text, "lm.order=3", "lm.prune=[0]", *overrides)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.yaml", name, "vocabulary.txt"]
    model = model_of(folder)
    assert set(model.words) == {"the", "a", "cat", "dog", "sat", "ran"}
    sentences = [["the", "cat", "sat"], ["dog", "a", "the"], []]
    for found, wanted in zip(model.score(sentences), expected.score(sentences), strict=True):
        assert found.log_prob == pytest.approx(wanted.log_prob, rel=1e-4 if overrides else 0.01)
    assert model.normalise("The CAT, sat!") == ["the", "cat", "sat"]


@pytest.mark.usefixtures("programs")
def test_models_of_the_same_text_and_size_know_the_same_words(text: Path) -> None:
    """A decoder can then use an n-gram model and an LSTM together."""
    from asr.language.lstm_training import train_lstm

    settings = ["lm.embedding_size=2", "lm.hidden_size=2", "lm.rows=1", "lm.steps=4", "lm.samples=0", "lm.held_out=0.3"]
    words = (train(text, "lm.vocabulary_size=4", "lm.order=2") / "vocabulary.txt").read_text()
    output = text.parent / "lstm"
    config = compose_training(["lm=lstm", f"text=[{text}]", f"output={output}", "lm.vocabulary_size=4", *settings])
    assert isinstance(config, LstmTraining)
    assert train_lstm(config) == 0
    assert (output / "vocabulary.txt").read_text() == words


@pytest.mark.usefixtures("programs")
def test_character_model(text: Path) -> None:
    model = model_of(train(text, "lm.unit=character", "lm.order=5", "lm.prune=[0]"))
    assert set(model.words) == set("thecasrndog|")
    words = dict(model.next_words(["the"], 20))
    assert words["cat"] > words["dog"] > 0.01
    assert sum(words.values()) < 1


@pytest.mark.usefixtures("programs")
def test_package_says_what_it_is(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = tmp_path / "dev.txt"
    dev.write_text("the cat slept\n")
    folder = train(text, f"dev=[{dev}]", "lm.order=2", "name=tiny")
    content = yaml.safe_load((folder / "config.yaml").read_text())
    facts = content["training"]
    assert (content["kind"], content["unit"], facts["sentences"], facts["words"]) == ("ngram", "word", 6, 18)
    assert facts["discount_fallback"]
    assert facts["dev_perplexity"]["oov_rate"] == pytest.approx(1 / 3, abs=1e-6)
    card = (folder / "README.md").read_text()
    assert "# tiny" in card
    assert model_of(folder).signature in card
    assert f"| perplexity a word | {facts['dev_perplexity']['perplexity']:.2f} (" in card
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("programs")
def test_output_is_replaced_whole_or_left_alone(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (train(text, "lm.order=2") / "config.yaml").read_text()
    for error in (KeyboardInterrupt, OSError):

        def stop(*_: object, error: type[BaseException] = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("asr.language.ngram_training.pack", stop)
            with pytest.raises(error):
                train(text, "lm.order=3")
        assert (text.parent / "lm" / "config.yaml").read_text() == before
        assert sorted(path.name for path in text.parent.iterdir()) == ["lm", "text.txt.xz"]
    train(text, "lm.order=3")
    assert model_of(text.parent / "lm").order == 3
    (text.parent / "lm" / "vocabulary.txt").unlink()
    with pytest.raises(ConfigError, match="not a language model package"):
        train(text, "lm.order=2")


def fake_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("cat >/dev/null; echo 'Last input should have been poison.' >&2; exit 1", "failed with exit code 1"),
        ("exit 3", "failed with exit code 3"),
        ("echo 'Try rerunning with a more conservative -S setting than 2G' >&2; exit 1", "lower lm.memory_gib"),
    ],
)
def test_failure_of_a_program_is_told(text: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    fake_program(text.parent / "bin", "lmplz", script)
    monkeypatch.setattr(lmplz_module, "find_program", lambda name: text.parent / "bin" / name)
    monkeypatch.setattr("asr.language.ngram_training.find_program", lambda name: text.parent / "bin" / name)
    with pytest.raises(Failure, match=words):
        train(text)
    assert not (text.parent / "lm").exists()


@pytest.mark.parametrize("script", ["kill -INT $PPID; exec sleep 60", "kill -INT $$"])
def test_interrupted_training_leaves_nothing(text: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Ctrl-C reaches this process and the one that counts, in any order."""
    text.write_bytes(lzma.compress(b"some words\n" * 200000))
    fake_program(text.parent / "bin", "lmplz", script)
    monkeypatch.setattr(lmplz_module, "find_program", lambda name: text.parent / "bin" / name)
    monkeypatch.setattr("asr.language.ngram_training.find_program", lambda name: text.parent / "bin" / name)
    with pytest.raises(KeyboardInterrupt):
        train(text)
    assert sorted(path.name for path in text.parent.iterdir()) == ["bin", "text.txt.xz"]


def test_programs_are_found_on_the_path_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "env" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ConfigError, match="scripts/build-lmplz"):
        find_program("lmplz")
    fake_program(tmp_path / "bin", "lmplz", "")
    assert find_program("lmplz") == tmp_path / "bin" / "lmplz"
    fake_program(tmp_path / "env", "lmplz", "")
    assert find_program("lmplz") == tmp_path / "env" / "lmplz"


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("config.yaml", "format: 1", "format: 9", "format 9"),
        ("config.yaml", "kind: ngram", "kind: tree", "kind"),
        ("config.yaml", "unit: word", "unit: phrase", "unit is 'phrase'"),
        ("config.yaml", "unit: word", "unt: word", "expected the keys"),
        ("config.yaml", "file: ngram.bin", "file: ../lm/ngram.bin", "file is"),
        ("config.yaml", "file: ngram.bin", "file: ngram.arpa", "not found"),
        ("config.yaml", "case: lower", "case: lowr", "case"),
        ("config.yaml", "format: 1", "format: [", "YAML"),
        ("vocabulary.txt", "cat\t4", "cat 4", "line"),
    ],
)
def test_broken_package_is_refused(text: Path, file: str, old: str, new: str, words: str) -> None:
    folder = train(text, "lm.order=2")
    content = (folder / file).read_text()
    assert old in content
    (folder / file).write_text(content.replace(old, new))
    with pytest.raises(PackageError, match=words):
        load_language_model(folder)


@pytest.mark.usefixtures("programs")
def test_damaged_model_is_refused_before_kenlm_reads_it(text: Path) -> None:
    folder = train(text, "lm.order=2")
    content = bytearray((folder / "ngram.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "ngram.bin").write_bytes(content)
    with pytest.raises(PackageError, match=r"not what config\.yaml says|truncated, corrupt or forged"):
        load_language_model(folder)
    with pytest.raises(PackageError, match="not found"):
        load_language_model(folder / "absent")


@pytest.mark.usefixtures("programs")
def test_commands(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    common = ["lm", "train", f"text=[{text}]", "lm.memory_gib=0.1", "lm.prune=[0]"]
    assert main([*common, f"output={first}", "lm.order=2"]) == 0
    assert main([*common, f"output={second}", "lm.order=3"]) == 0
    assert "language model package" in capsys.readouterr().out
    dev = tmp_path / "1.trans.txt"
    dev.write_text("1-1 THE CAT SAT\n1-2 A DOG RAN\n")
    assert main(["lm", "score", first, str(dev), "--compare", second]) == 0
    out = capsys.readouterr().out
    assert out.count("perplexity a word") == 2
    assert "6 words in 2 sentences" in out
    assert "second against first" in out
    assert "no clear difference" in out or "model is better" in out
    assert main(["lm", "predict", "The", "--model", second, "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["cat", "dog"]
    assert float(lines[0].split()[0]) > float(lines[1].split()[0])
    assert main(["lm", "sample", "--model", second, "-n", "3", "the dog"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert all(line.startswith("the dog") for line in told.out.splitlines())
    assert main(["lm", "predict", "the zebra", "--model", second]) == 0
    assert capsys.readouterr().err == "asr lm: the model does not know: zebra\n"
    other = tmp_path / "other.arpa"
    assert main([*common, f"output={tmp_path / 'arpa'}", "lm.format=arpa", "lm.order=2"]) == 0
    (tmp_path / "arpa" / "ngram.arpa").rename(other)  # a KenLM file by itself has no normaliser
    capsys.readouterr()
    assert main(["lm", "score", first, str(dev), "--compare", str(other)]) == 2
    told = capsys.readouterr()
    assert (told.out, "make different words" in told.err) == ("", True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "text is empty"),
        (["train", "text=[absent.txt]"], "no such file"),
        (["train", "text=[a]", "lm=lstm", "lm.order=3"], "lm.order is a setting of lm=ngram"),
        (["train", "lm.ordr=3"], "Did you mean lm.order?"),
        (["train", "lm=lstn"], "Did you mean lstm?"),
        (["train", "lm.order=7"], "lm.order=7: expected 2 to 6"),
        (["train", "lm.prune=[0,2,1]"], "lm.prune=[0,2,1]"),
        (["train", "output=' '"], "output is empty"),
        (["train", "lm=lstm", "lm.samples=100", "lm.vocabulary_size=50"], "lm.samples=100"),
        (["score", "absent", "text"], "no such file"),
        (["predict", "a", "--model", "absent"], "absent: not found"),
        (["predict", "a", "--model", "absent", "-n", "0"], "-n 0"),
        (["sample", "--model", "absent", "--temperature", "0"], "--temperature 0"),
        (["sample", "--model", "absent", "--temperature", "inf"], "--temperature inf"),
        (["sample", "--model", "absent", "--seed", "-1"], "--seed -1"),
        (["train", "lm=lstm", "text=[absent.txt]"], "no such file"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lm", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("asr lm: error: ")
    assert words in error
    assert not any(tmp_path.rglob("*.training"))


def test_every_setting_is_documented_and_its_default_lies_in_its_range() -> None:
    text = describe_training()
    for schema in (NgramTraining, LstmTraining):
        for key, entry in leaves(schema).items():
            assert entry.field.metadata["doc"], key
            assert key in text
    assert compose_training(["text=[a]"]) == NgramTraining(text=["a"], output="runs/lm/lm")
    assert compose_training(["lm=lstm"]) == LstmTraining(output="runs/lm/lm")
    names = {path.stem for path in (conf_dir() / "lm").glob("*.yaml")}
    for name in names:
        assert compose_training([f"lm={name}"]).lm.kind in ("ngram", "lstm")


def test_own_settings_file(tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "mine.yaml").write_text("kind: lstm\nlayers: 5\n")
    config = compose_training(["lm=mine", "name=x"], tmp_path)
    assert (config.lm.kind, config.output) == ("lstm", "runs/lm/x")
    (tmp_path / "lm" / "mine.yaml").write_text("layers: 5\n")
    with pytest.raises(ConfigError, match="expected `kind: ngram`"):
        compose_training(["lm=mine"], tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
def test_model_of_real_text_agrees_with_held_out_speech(speech_data: Path, tmp_path: Path) -> None:
    """On LibriSpeech's transcripts: perplexities far below that of the words' frequencies alone."""
    text = speech_data / "text" / "train-clean-100.trans.txt.xz"
    if not text.is_file():
        pytest.skip(f"no {text}")
    dev = sorted(map(str, (speech_data / "LibriSpeech" / "dev-clean-a").rglob("*.trans.txt")))
    results = []
    for order in (2, 3):
        output = tmp_path / f"lm{order}"
        config = compose_training(
            [f"text=[{text}]", f"dev=[{','.join(dev)}]", f"output={output}", f"lm.order={order}", "lm.vocabulary_size=20000"]
        )
        assert isinstance(config, NgramTraining)
        train_ngram(config)
        results.append(yaml.safe_load((output / "config.yaml").read_text())["training"]["dev_perplexity"])
    assert 200 < results[1]["perplexity"] < results[0]["perplexity"] < 500
    assert results[0]["oov_rate"] == results[1]["oov_rate"] < 0.05


def test_build_script_explains_itself_and_refuses_what_it_does_not_know() -> None:
    script = Path(__file__).resolve().parents[1] / "scripts" / "build-lmplz"
    told = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--install-packages" in told
    assert "apt-get" in told
    refused = subprocess.run([script, "--instal"], capture_output=True, text=True)
    assert (refused.returncode, "unknown argument --instal" in refused.stderr) == (2, True)


def test_build_script_says_what_is_missing(tmp_path: Path) -> None:
    """With nothing but the shell's own tools on the PATH."""
    script = Path(__file__).resolve().parents[1] / "scripts" / "build-lmplz"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "mktemp", "rm", "tr", "sed"):
        (tools / name).symlink_to(str(shutil.which(name)))
    target = tmp_path / "target"
    result = subprocess.run(
        [script, target], capture_output=True, text=True, env={**os.environ, "PATH": str(tools), "PYTHON": "python3"}
    )
    assert result.returncode == 2
    for word in ("cmake", "g++", "libboost-thread-dev", "zlib1g-dev", "apt-get install", "--install-packages"):
        assert word in result.stderr
    assert not target.exists()


def test_missing_text_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    config = compose_training([f"text=[{tmp_path}/absent.txt]", f"output={tmp_path}/lm"])
    assert isinstance(config, NgramTraining)
    with pytest.raises((DataError, ConfigError)):
        train_ngram(config)
    assert list(tmp_path.iterdir()) == []
