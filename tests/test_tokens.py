"""What every tokenizer keeps to, and training, packages, evaluation and transcription with each kind."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from beeps import LEARNING, small_config, write_corpus
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.cli import main
from asr.config import Config, TokensConfig
from asr.config_mapping import from_mapping
from asr.engine.checkpoint import LAST, read_checkpoint
from asr.errors import ConfigError, DataError, PackageError
from asr.package.load import read_package
from asr.text import FILE_NAME, Tokenizer, build_tokenizer, load_tokenizer
from asr.training import train
from asr.training.resume import kept_tokenizer

LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
WORDS = ("cab", "bac", "abba", "baccab", "cabab", "aba")
KINDS = ("characters", "bpe", "phones", "dictionary")


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each letter is a phone, so that a beep is."""
    path = tmp_path_factory.mktemp("dictionary") / "beeps.dict"
    phones = {"a": "AA1", "b": "B", "c": "K"}
    path.write_text("".join(f"{word.upper()}  {' '.join(phones[letter] for letter in word)}\n" for word in WORDS))
    return path


@pytest.fixture(scope="module")
def tokenizers(dictionary: Path) -> dict[str, Tokenizer]:
    texts = ["Cab; it's an aba.", *WORDS, "the quick brown fox jumps over the lazy dog", "measure joy, thin church air"]
    configs = {
        "characters": TokensConfig(),
        "unspaced": TokensConfig(alphabet=LETTERS[1:]),
        "bpe": TokensConfig(kind="bpe", size=50),
        "unspaced bpe": TokensConfig(kind="bpe", size=50, alphabet=LETTERS[1:]),
        "phones": TokensConfig(kind="phones"),
        "stressed phones": TokensConfig(kind="phones", stress="keep"),
        "upper-case phones": TokensConfig(kind="phones", alphabet=LETTERS.upper(), case="upper"),
        "dictionary": TokensConfig(kind="phones", dictionary=str(dictionary)),
    }
    return {name: build_tokenizer(config, lambda: texts) for name, config in configs.items()}


ANY = st.sampled_from(["characters", "unspaced", "bpe", "unspaced bpe", "phones", "stressed phones", "upper-case phones"])
TEXTS = st.lists(st.text(alphabet=LETTERS[2:] + "'-. ,X", max_size=12), max_size=6).map(" ".join)


@given(ANY, TEXTS)
def test_encoding_is_the_spelling_of_the_words_with_boundaries_between(
    tokenizers: dict[str, Tokenizer], name: str, text: str
) -> None:
    tokenizer = tokenizers[name]
    words = tokenizer.normalise(text).split()
    spellings = tokenizer.spell_many(words)
    assert spellings == {word: tokenizer.spell(word) for word in words}
    if tokenizer.unknown(text):
        assert not all(spellings.values())
        return
    between = [] if tokenizer.boundary is None else [tokenizer.boundary]
    joined: list[int] = []
    for word in words:
        joined += [*(between if joined else []), *spellings[word][0]]
    tokens = tokenizer.encode(text)
    assert tokens == joined
    assert all(0 < token < len(tokenizer) for token in tokens)
    assert tokenizer.decode(tokens) == tokenizer.reference(text)
    if tokenizer.writes_words:
        assert tokenizer.reference(text) == tokenizer.normalise(text)
    else:
        assert len(tokenizer.reference(text).split()) == len(words)


@given(ANY, st.text(max_size=30))
def test_any_text_can_be_normalised_and_referred_to(tokenizers: dict[str, Tokenizer], name: str, text: str) -> None:
    tokenizer = tokenizers[name]
    once = tokenizer.normalise(text)
    assert tokenizer.normalise(once) == once
    assert isinstance(tokenizer.reference(text), str)
    assert all(map(tokenizer.spell, once.split())) == (not tokenizer.unknown(text))


@given(ANY, st.lists(st.integers(1, 27), max_size=20))
def test_any_tokens_can_be_decoded(tokenizers: dict[str, Tokenizer], name: str, tokens: list[int]) -> None:
    text = tokenizers[name].decode(tokens)
    assert text == " ".join(text.split())


def test_spellings_are_without_boundaries(tokenizers: dict[str, Tokenizer]) -> None:
    for name, tokenizer in tokenizers.items():
        if tokenizer.boundary is not None:
            assert tokenizer.token_names[tokenizer.boundary] == ("|" if tokenizer.kind == "phones" else " ")
            assert all(tokenizer.boundary not in tokens for tokens in tokenizer.spell("cab")), name
        assert tokenizer.spell("c b") == tokenizer.spell("") == tokenizer.spell(" ") == tokenizer.spell("c7") == []


def test_saved_and_loaded_is_the_same(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    for name, tokenizer in tokenizers.items():
        tokenizer.save(tmp_path)
        loaded = load_tokenizer(tmp_path)
        assert type(loaded) is type(tokenizer), name
        assert loaded.to_mapping() == tokenizer.to_mapping()
        assert loaded.token_names == tokenizer.token_names
        assert loaded.boundary == tokenizer.boundary
        assert loaded.spell_many(WORDS) == tokenizer.spell_many(WORDS)


def test_transcripts_are_asked_for_only_where_they_are_needed() -> None:
    def texts() -> list[str]:
        raise AssertionError

    assert len(build_tokenizer(TokensConfig(), texts)) == 29
    for kind in ("bpe", "phones"):
        with pytest.raises(ConfigError, match="follow from the training transcripts"):
            build_tokenizer(TokensConfig(kind=kind))
    with pytest.raises(ConfigError, match="expected one of characters, bpe, phones"):
        build_tokenizer(TokensConfig(kind="letters"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "phones", "alphabet": "abc"}, "needs the space"),
        ({"kind": "phone"}, r"expected one of characters, bpe, phones\. Did you mean phones"),
        ({"kind": "bpe", "size": 2}, "3 to 65536"),
        ({"stress": "no"}, "one of remove, keep"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping({"tokens": settings})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beeps")
    rng = np.random.default_rng(3)

    def text(words: tuple[str, ...] = WORDS) -> str:
        return " ".join(rng.choice(words, rng.integers(1, 4)))

    write_corpus(folder, "train", [*WORDS, *(text() for _ in range(42))])
    write_corpus(folder, "dev", [text() for _ in range(8)])
    write_corpus(folder, "other", [text(("aba", "abba")) for _ in range(48)])  # fewer words, so other pieces and phones
    return folder


def config_of(kind: str, corpus: Path, output: Path, dictionary: Path, *overrides: str) -> Config:
    tokens = {
        "characters": ["tokens=characters"],
        "bpe": ["tokens=bpe", "tokens.size=12"],
        "phones": ["tokens=phones"],
        "dictionary": ["tokens=phones", f"tokens.dictionary={dictionary}"],
    }
    return small_config(corpus, output, *tokens[kind], *overrides)


@pytest.mark.parametrize("kind", KINDS)
def test_train_resume_package_evaluate_transcribe(
    kind: str, corpus: Path, dictionary: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = tmp_path / "copied.dict"
    copied.write_text(dictionary.read_text())
    config = config_of(kind, corpus, tmp_path / "run", copied, "trainer.epochs=1")
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    first = load_tokenizer(tmp_path / "run" / "package")
    said = "\n".join(caplog.messages)
    dev = json.loads((corpus / "dev.jsonl").read_text().splitlines()[0])["supervisions"][0]["text"]
    assert f"  ref {first.reference(dev)}\n" in said
    assert ("dev WER counts the words whose phones are not all right" in said) == (not first.writes_words)
    # The network goes on writing the same tokens, whatever became of the dictionary.
    copied.write_text("ABA  X\nABBA  Y\n")
    assert train(replace(config, trainer=replace(config.trainer, epochs=2))) == 0
    package = tmp_path / "run" / "package"
    assert load_tokenizer(package).to_mapping() == first.to_mapping()
    path = tmp_path / "run" / LAST
    assert kept_tokenizer(read_checkpoint(path), path).to_mapping() == first.to_mapping()
    copied.unlink()
    assert main(["evaluate", str(package), str(corpus / "dev.jsonl"), "-o", str(tmp_path / "results")]) == 0
    assert isinstance(asr.load_model(package).transcribe(corpus / "audio" / "dev-000.wav").text, str)
    settings = yaml.safe_load((package / "config.yaml").read_text())
    assert settings["tokens"]["kind"] == first.kind


def test_phones_are_learnt(corpus: Path, dictionary: Path, tmp_path: Path) -> None:
    config = config_of("dictionary", corpus, tmp_path / "run", dictionary, *LEARNING)
    assert train(config) == 0
    facts = yaml.safe_load((tmp_path / "run" / "package" / "config.yaml").read_text())["training"]
    assert facts["dev_wer"]["rate"] < 0.2
    text = asr.load_model(tmp_path / "run" / "package", vad=False).transcribe(corpus / "audio" / "train-000.wav").text
    assert text == "KAAB"


def test_words_that_a_dictionary_lacks_are_named_and_counted(corpus: Path, dictionary: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.dict"
    short.write_text("CAB  K AA1 B\nABA  AA1 B AA1\nABBA  AA1 B AA1\n")
    config = config_of("dictionary", corpus, tmp_path / "run", short)
    with pytest.raises(DataError, match=r"corpus\.train: \d+ of 48 transcripts") as caught:
        train(config)
    message = str(caught.value)
    assert {"bac", "baccab", "cabab"} == set(message.split("spelled (3): ")[1].split("\n")[0].split(", "))
    assert "Add them to a copy of short.dict" in message
    with pytest.raises(DataError, match=r"corpus\.dev: \d+ of 8 transcripts"):
        train(replace(config, corpus=replace(config.corpus, train=[f"{corpus}/other.jsonl"])))
    assert not (tmp_path / "run" / FILE_NAME).exists()


def test_how_large_the_tokenizer_of_a_package_may_be(package: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "package"))
    text = (copy / FILE_NAME).read_text()
    for n_bytes in (1 << 20, 1 << 23):  # a dictionary takes the first; the last is refused before it is parsed
        (copy / FILE_NAME).write_text(text + " " * (n_bytes - len(text.encode())))
        assert read_package(copy).tokenizer.kind == "characters"
    (copy / FILE_NAME).write_text(text + " " * (1 << 23))
    with pytest.raises(PackageError, match=r"tokenizer\.json: [\d,]+ bytes; expected 8,388,608 at most"):
        read_package(copy)


def test_two_processes_agree_on_the_tokens(corpus: Path, dictionary: Path) -> None:
    """As the processes of a run do, each of which builds its own."""
    import subprocess
    import sys

    code = (
        "import json, sys; from asr.config import TokensConfig; from asr.text import build_tokenizer; "
        "texts = [json.loads(line)['supervisions'][0]['text'] for line in open(sys.argv[1])]; "
        "config = TokensConfig(**json.loads(sys.argv[2])); "
        "print(json.dumps(build_tokenizer(config, lambda: texts).to_mapping()))"
    )
    settings: list[dict[str, str | int]] = [{"kind": "bpe", "size": 34}, {"kind": "phones"}]
    settings.append({"kind": "phones", "dictionary": str(dictionary)})
    for tokens in settings:
        arguments = [sys.executable, "-c", code, str(corpus / "train.jsonl"), json.dumps(tokens)]
        one, two = (subprocess.run(arguments, capture_output=True, check=True, text=True).stdout for _ in range(2))
        assert one == two
        assert json.loads(one)["kind"] == tokens["kind"]
