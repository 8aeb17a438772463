"""Training that starts from a model package: what it takes over, what it refuses, and what it says of its origin."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from beeps import LEARNING, assert_equal_weights, small_config, weights, write_corpus
from exhaustive import write_arpa
from safetensors.torch import load_file

from asr.cli import main
from asr.config import Config, DecodingConfig
from asr.config_mapping import to_yaml
from asr.decoding import build_decoder
from asr.errors import ConfigError, DataError, PackageError
from asr.package.load import read_package, with_decoding
from asr.package.save import compress_package, write_package
from asr.text import tokenizer_from_mapping
from asr.training import train
from asr.training.module import SpeechModule

NORMS = ("model.cnn.norm=batch", "model.recurrent.norm=batch", "frontend.normalisation=corpus")
TRAINED = tuple(text for text in LEARNING if not text.startswith("trainer.epochs"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beeps")
    texts = ["a", "b c", "ab", "ca b", "abc", "c a", "bca", "ba c"]
    write_corpus(folder, "train", texts * 4)
    write_corpus(folder, "dev", texts[:4])
    return folder


@pytest.fixture(scope="module")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package of a short training with batch normalisation and corpus statistics."""
    output = tmp_path_factory.mktemp("base") / "run"
    assert train(small_config(corpus, output, *NORMS, "trainer.epochs=1")) == 0
    return output / "package"


def tuned_config(corpus: Path, output: Path, package: Path, *overrides: str) -> Config:
    return small_config(corpus, output, *NORMS, f"trainer.pretrained={package}", "trainer.epochs=1", *overrides)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Fill with the state of each module that trains, as it is before the first step."""
    states = []

    def note(self: SpeechModule) -> None:
        states.append({name: tensor.clone() for name, tensor in self.state_dict().items()})

    monkeypatch.setattr(SpeechModule, "on_train_start", note)
    return states


def part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


@pytest.fixture
def shipped(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a model that ships with asr."""
    shutil.copytree(base, tmp_path / "models" / "beeps")
    monkeypatch.setattr("asr.package.shipped.models_dir", lambda: tmp_path / "models")
    return "beeps"


def test_a_model_that_ships_is_started_from_by_its_name(
    corpus: Path, base: Path, shipped: str, tmp_path: Path, started: list[dict[str, torch.Tensor]]
) -> None:
    assert train(tuned_config(corpus, tmp_path / "run", Path(shipped))) == 0
    assert_equal_weights(part(started[0], "model."), load_file(base / "model.safetensors"))
    with pytest.raises(ConfigError, match=r"beep: no such folder, and no model of that name .* Did you mean beeps"):
        train(tuned_config(corpus, tmp_path / "other", Path("beep")))


def facts_of(package: Path) -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load((package / "config.yaml").read_text())["training"]
    return facts


def test_weights_and_statistics_are_those_of_the_package(
    corpus: Path, base: Path, tmp_path: Path, started: list[dict[str, torch.Tensor]]
) -> None:
    """Batch normalisation's and the features' statistics, the average and the head of the auxiliary loss as well."""
    write_corpus(tmp_path, "other", ["c", "c c", "cc", "cac"])  # of other statistics
    extras = ("trainer.average_epochs=1", "optim.intermediate_ctc=0.3", f"corpus.train=[{tmp_path}/other.jsonl]")
    assert train(tuned_config(corpus, tmp_path / "run", base, *extras)) == 0
    expected = load_file(base / "model.safetensors")
    assert "frontend.mean" in expected
    assert any(name.endswith("running_var") for name in expected)
    (state,) = started
    assert_equal_weights(part(state, "model."), expected)
    assert_equal_weights(part(state, "average."), expected)
    assert_equal_weights(part(state, "intermediate."), part(expected, "acoustic.head."))


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_a_compressed_package_is_started_from(
    storage: str, corpus: Path, base: Path, tmp_path: Path, started: list[dict[str, torch.Tensor]]
) -> None:
    small = compress_package(base, tmp_path / "small", storage)
    assert train(tuned_config(corpus, tmp_path / "run", small)) == 0
    assert_equal_weights(part(started[0], "model."), dict(read_package(small).model.state_dict()))
    assert {tensor.dtype for tensor in started[0].values()} == {torch.float32}


def test_the_tokenizer_is_that_of_the_package(
    corpus: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other settings of the same kind are named and not used, in what is written after a resumption as well."""
    config = tuned_config(corpus, tmp_path / "run", base, "tokens.alphabet=' cba'")
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    assert f"tokens.alphabet differ from {base}, whose tokenizer is used as it is" in caplog.messages
    written = tmp_path / "run" / "package"
    for epochs in (1, 2):
        shutil.rmtree(written, ignore_errors=epochs == 2)
        without_dev = replace(config, corpus=replace(config.corpus, dev=[]))
        output = replace(without_dev, trainer=replace(config.trainer, epochs=epochs + 1))
        assert train(output) == 0
        assert (written / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
        assert read_package(written).config.tokens.alphabet == " abc"
        assert "| writes | ` abc` |" in (written / "README.md").read_text()


def test_transcripts_are_checked_against_the_tokenizer_of_the_package(corpus: Path, base: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path, "other", ["ab", "ba"])
    manifest = tmp_path / "other.jsonl"
    manifest.write_text(manifest.read_text().replace('"text": "ba"', '"text": "bad"'))
    config = tuned_config(corpus, tmp_path / "run", base, "tokens.alphabet=' abcd'", f"corpus.train=[{manifest}]")
    with pytest.raises(DataError, match=r"(?s)1 of 2 transcripts cannot be written .*'d'"):
        train(config)


def test_pieces_of_words_are_not_found_again(corpus: Path, tmp_path: Path) -> None:
    bpe = ("tokens=bpe", "tokens.size=6")
    assert train(small_config(corpus, tmp_path / "base", *NORMS, *bpe, "trainer.epochs=1")) == 0
    write_corpus(tmp_path, "other", ["cc a", "ccc b", "a cc"] * 4)  # other pieces would be found in these
    package = tmp_path / "base" / "package"
    config = tuned_config(corpus, tmp_path / "run", package, *bpe, f"corpus.train=[{tmp_path}/other.jsonl]")
    assert train(config) == 0
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    names = tokenizer_from_mapping(checkpoint["tokenizer"], "last.ckpt").token_names
    assert names == read_package(package).tokenizer.token_names


def test_a_new_head_writes_other_tokens(
    corpus: Path, base: Path, tmp_path: Path, started: list[dict[str, torch.Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    """All but the head is the package's; tokens and head are those of the configuration, after a resumption as well."""
    others = ("trainer.new_head=true", "tokens=bpe", "tokens.size=6", "model.head.hidden_sizes=[10]")
    extras = ("trainer.average_epochs=1", "optim.intermediate_ctc=0.3")
    config = tuned_config(corpus, tmp_path / "run", base, *others, *extras)
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    assert any(message.endswith(", with a new head") for message in caplog.messages)
    (state,) = started
    expected = {name: value for name, value in load_file(base / "model.safetensors").items() if ".head." not in name}
    for prefix in ("model.", "average."):
        found = part(state, prefix)
        assert_equal_weights({name: value for name, value in found.items() if ".head." not in name}, expected)
        assert sorted(tuple(value.shape) for name, value in found.items() if ".head." in name) == [
            (6,),
            (6, 10),
            (10,),
            (10, 48),
        ]
    assert_equal_weights(part(state, "model.acoustic.head."), part(state, "average.acoustic.head."))
    assert train(replace(config, trainer=replace(config.trainer, epochs=2))) == 0
    written = read_package(tmp_path / "run" / "package")
    assert (written.tokenizer.kind, len(written.tokenizer), written.config.tokens) == ("bpe", 6, config.tokens)
    assert facts_of(tmp_path / "run" / "package")["pretrained"].startswith(str(base))


def test_a_new_head_keeps_the_rest_of_the_network(corpus: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.recurrent\.hidden_size is 32 here and 24 in [^;]*; give [a-z_.=0-9]*$"):
        train(tuned_config(corpus, tmp_path / "run", base, "trainer.new_head=true", "model.recurrent.hidden_size=32"))
    with pytest.raises(ConfigError, match=r"give tokens\.kind=characters, or trainer\.new_head=true"):
        train(tuned_config(corpus, tmp_path / "run", base, "tokens=phones"))
    with pytest.raises(ConfigError, match=r"new_head=true: expected trainer\.pretrained as well"):
        train(small_config(corpus, tmp_path / "run", "trainer.new_head=true"))


@pytest.fixture
def worded(base: Path, tmp_path: Path) -> Path:
    """Package with a decoder of its own: an n-gram language model and a lexicon."""
    package = shutil.copytree(base, tmp_path / "worded")
    arpa = write_arpa(tmp_path / "words.arpa")
    (tmp_path / "words.tsv").write_text("a\ta\nb\tb\nab\ta b\n")
    loaded = read_package(package)
    settings = {"kind": "beam_ngram", "lm": str(arpa), "lexicon_file": str(tmp_path / "words.tsv"), "lm_weight": 1.5}
    config = with_decoding(loaded, settings).config
    write_package(package, config, loaded.model, loaded.tokenizer, "card", loaded.facts)
    arpa.unlink()
    return package


def test_the_decoder_goes_with_the_fine_tuned_model(
    corpus: Path, worded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Language model and lexicon are copied, and stay where the first package and a run's own have come and gone."""
    config = tuned_config(corpus, tmp_path / "run", worded)
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    assert "its decoder, beam_ngram, goes with the new model; validation goes on with greedy" in caplog.messages
    written = tmp_path / "run" / "package"
    expected = replace(read_package(worded).config.decoding, lm="language/ngram.arpa", lexicon_file="language/lexicon.tsv")
    assert read_package(written).config.decoding == expected
    for name in ("ngram.arpa", "lexicon.tsv"):
        assert (written / "language" / name).read_bytes() == (worded / "language" / name).read_bytes()
    assert build_decoder(expected, read_package(written).tokenizer, written).writes_words
    without_dev = replace(config, corpus=replace(config.corpus, dev=[]))
    worded.rename(tmp_path / "elsewhere")
    assert train(replace(without_dev, trainer=replace(config.trainer, epochs=2))) == 0
    assert read_package(written).config.decoding == expected
    assert (written / "language" / "ngram.arpa").is_file()
    shutil.rmtree(written)
    caplog.clear()
    assert train(replace(without_dev, trainer=replace(config.trainer, epochs=3))) == 0
    assert any(f"the package is written without the decoder of {worded}" in message for message in caplog.messages)
    assert read_package(written).config.decoding == DecodingConfig()


@pytest.mark.parametrize("override", ["decoding.beam=7", "trainer.new_head=true"])
def test_the_decoder_stays_behind_where_the_run_has_its_own_or_other_tokens(
    override: str, corpus: Path, worded: Path, tmp_path: Path
) -> None:
    config = tuned_config(corpus, tmp_path / "run", worded, override)
    assert train(config) == 0
    assert read_package(tmp_path / "run" / "package").config.decoding == config.decoding
    assert not (tmp_path / "run" / "package" / "language").exists()


@pytest.mark.parametrize(
    ("override", "key", "here", "there"),
    [
        ("model.recurrent.hidden_size=32", "model.recurrent.hidden_size", "32", "24"),
        ("frontend.n_mels=30", "frontend.n_mels", "30", "20"),
        ("frontend.dynamic_range_db=null", "frontend.dynamic_range_db", "null", "80.0"),
        ("frontend.f_max_hz=3000", "frontend.f_max_hz", "3000.0", "null"),
        ("model.cnn.channels=[4]", "model.cnn.channels", "[4]", "[8]"),
        ("model.recurrent.bidirectional=false", "model.recurrent.bidirectional", "False", "True"),
        ("tokens.kind=phones", "tokens.kind", "phones", "characters"),
    ],
)
def test_what_the_weights_do_not_fit_is_refused(
    override: str, key: str, here: str, there: str, corpus: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(tuned_config(corpus, tmp_path / "run", base, override))
    assert f"{key} is {here} here and {there} in {base}; give {key}={there}" in str(caught.value)
    assert train(tuned_config(corpus, tmp_path / "run", base, override, f"{key}={there}")) == 0  # what it says to give helps


def test_every_differing_key_is_named(corpus: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give frontend\.n_mels=20 model\.recurrent\.hidden_size=24$"):
        train(tuned_config(corpus, tmp_path / "run", base, "model.recurrent.hidden_size=32", "frontend.n_mels=30"))


def test_what_does_not_change_the_weights_meaning_may_differ(
    corpus: Path, base: Path, tmp_path: Path, started: list[dict[str, torch.Tensor]]
) -> None:
    free = [
        "model.cnn.dropout=0.5",
        "model.recurrent.dropout=0.5",
        "model.head.dropout=0.5",
        "model.recurrent.input_init=uniform",
        "model.recurrent.recurrent_init=xavier",
        "model.recurrent.forget_bias=3",
        "optim.lr=1e-3",
        "augment=none",
    ]
    assert train(tuned_config(corpus, tmp_path / "run", base, *free)) == 0
    assert_equal_weights(part(started[0], "model."), load_file(base / "model.safetensors"))


def test_facts_card_and_log_name_the_package(
    corpus: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "asr"):
        assert train(tuned_config(corpus, tmp_path / "run", base)) == 0
    origin = f"{base} (checkpoint {read_package(base).checkpoint_hash})"
    assert f"starting from {origin}" in caplog.messages
    written = tmp_path / "run" / "package"
    assert facts_of(written)["pretrained"] == origin
    assert f"| started from | {origin};" in (written / "README.md").read_text()
    assert facts_of(base)["pretrained"] is None
    assert "started from" not in (base / "README.md").read_text()


def test_a_resumed_run_does_not_read_the_package(
    corpus: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have gone; the model that is written still names it."""
    package = shutil.copytree(base, tmp_path / "package")
    config = tuned_config(corpus, tmp_path / "run", package, "corpus.dev=[]")
    assert train(config) == 0
    before = weights(config)
    origin = facts_of(tmp_path / "run" / "package")["pretrained"]
    shutil.rmtree(package)
    caplog.clear()
    longer = replace(config, trainer=replace(config.trainer, epochs=2))
    with caplog.at_level(logging.INFO, "asr"):
        assert train(longer) == 0
    assert not any("starting from" in message or "is not read" in message for message in caplog.messages)
    facts = facts_of(tmp_path / "run" / "package")
    assert (facts["epoch"], facts["pretrained"]) == (2, origin)
    assert torch.equal(weights(longer)["model.frontend.mean"], before["model.frontend.mean"])


def test_another_package_on_resuming_is_said_not_to_be_read(
    corpus: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config(corpus, tmp_path / "run", *NORMS, "trainer.epochs=1")
    assert train(config) == 0
    with caplog.at_level(logging.INFO, "asr"):
        assert train(replace(config, trainer=replace(config.trainer, epochs=2, pretrained=str(base)))) == 0
    assert f"trainer.pretrained={base} is not read: the run started from random weights and goes on" in caplog.messages
    assert facts_of(tmp_path / "run" / "package")["pretrained"] is None


def arguments(config: Config, folder: Path) -> list[str]:
    """Return a command line that gives what a configuration has beside the defaults, through a recipe of one's own."""
    (folder / "recipes").mkdir()
    mapping = yaml.safe_load(to_yaml(config))
    (folder / "recipes" / "mine.yaml").write_text(json.dumps(mapping))
    return ["train", "+recipe=mine", "--config-dir", str(folder)]


def test_an_absent_package_is_the_user_s_mistake(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tuned_config(corpus, tmp_path / "run", tmp_path / "nowhere")
    with pytest.raises(PackageError, match=r"trainer\.pretrained: .*nowhere: no such folder"):
        train(config)
    assert main(arguments(config, tmp_path)) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_the_package_is_not_written_over_by_its_own_run(corpus: Path, base: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(base, tmp_path / "run" / "package")
    with pytest.raises(ConfigError, match=r"in place of this one; choose another folder with output="):
        train(tuned_config(corpus, tmp_path / "run", mine / ".." / "package"))


def test_a_package_of_other_make_is_started_from(
    package: Path, package_of: Callable[[str], Path], corpus: Path, tmp_path: Path
) -> None:
    """One that asr.package.save alone wrote, with a network of other cells refused."""
    there = read_package(package).config
    config = small_config(corpus, tmp_path / "run", f"trainer.pretrained={package}", "trainer.epochs=1")
    config = replace(config, tokens=there.tokens, frontend=there.frontend, model=there.model)
    assert train(config) == 0
    other = replace(config, output=str(tmp_path / "other"), trainer=replace(config.trainer, pretrained=str(package_of("gru"))))
    with pytest.raises(ConfigError, match=r"model\.recurrent\.cell is lstm here and gru in "):
        train(other)


def test_it_begins_better_than_from_random_weights(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[float] = []
    original = SpeechModule.on_train_epoch_end

    def note(self: SpeechModule) -> None:
        first.append(sum(self.losses) / len(self.losses))
        original(self)

    scratch = small_config(corpus, tmp_path / "scratch", *TRAINED, "trainer.epochs=12")
    assert train(scratch) == 0
    monkeypatch.setattr(SpeechModule, "on_train_epoch_end", note)
    package = f"trainer.pretrained={tmp_path}/scratch/package"
    for name, overrides in (("random", []), ("tuned", [package])):
        config = small_config(corpus, tmp_path / name, *TRAINED, "optim.lr=1e-3", "trainer.epochs=1", *overrides)
        assert train(config) == 0
    random, tuned = first
    assert tuned < 0.5 * random


@pytest.mark.slow
def test_two_processes_start_from_one_package(corpus: Path, base: Path, tmp_path: Path) -> None:
    config = tuned_config(corpus, tmp_path / "run", base, "trainer.devices=2", "optim.lr=1e-8", "optim.weight_decay=0")
    command = [sys.executable, "-m", "asr", *arguments(config, tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("starting from") == 1
    expected = load_file(base / "model.safetensors")
    for name, tensor in load_file(tmp_path / "run" / "package" / "model.safetensors").items():
        if "running" not in name:  # statistics move with the batches
            torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)
