"""LSTM language models: the network, its loss and optimiser, training, resuming, packages."""

from __future__ import annotations

import errno
import importlib
import itertools
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch.nn import functional

from asr.cli import main
from asr.errors import ConfigError, DataError, PackageError, TrainingDiverged
from asr.language import load_language_model
from asr.language.config import LstmConfig, LstmTraining, compose_training
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_data import Tokens, as_rows, encode
from asr.language.lstm_run import LAST
from asr.language.lstm_step import RowAdam, Stepper, rate_factor
from asr.language.lstm_training import INTERRUPTED, choose_device, train_lstm
from asr.language.softmax import Sampler, inclusion_probabilities, sampled_cross_entropy
from asr.language.units import Words
from asr.language.vocabulary import Vocabulary

WORDS = ("the", "cat", "dog", "sat", "ran")
SMALL = LstmConfig(embedding_size=6, hidden_size=5, layers=2, vocabulary_size=5, samples=0, dropout=0.0)


def small_model() -> LstmModel:
    torch.manual_seed(4)
    network = LstmNetwork(SMALL, len(WORDS) + 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return LstmModel(network, Words(), WORDS, None, "0" * 12)


def reference_log_probs(model: LstmModel, indices: list[int]) -> np.ndarray:
    """``(position, unit)`` log-probabilities after each index, by the equations of an LSTM in float64."""
    weights = {name: tensor.double().numpy() for name, tensor in model.network.state_dict().items()}
    rows = []
    layers = [[np.zeros(5), np.zeros(5)] for _ in range(2)]
    for index in indices:
        x = weights["embedding.weight"][index]
        for number, layer in enumerate(layers):
            prefix = f"recurrent.layers.{number}.forward_cell."
            h, c = layer
            gates = weights[prefix + "weight_ih_l0"] @ x + weights[prefix + "weight_hh_l0"] @ h
            gates += weights[prefix + "bias_ih_l0"] + weights[prefix + "bias_hh_l0"]
            i, f, g, o = gates.reshape(4, 5)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
            layer[:] = h, c
            x = h
        x = weights["projection.weight"] @ x + weights["projection.bias"]
        logits = weights["embedding.weight"] @ x + weights["bias"]
        rows.append(logits - np.log(np.exp(logits).sum()))
    return np.array(rows)


SENTENCES = [["the", "cat", "sat"], [], ["zebra", "ran"], ["the", "dog", "ran", "the", "cat", "sat"], ["sat"]]


def test_scores_are_those_of_the_equations() -> None:
    model = small_model()
    for sentence, score in zip(SENTENCES, model.score(SENTENCES), strict=True):
        targets = [*map(model.index, sentence), model.end]
        log_probs = reference_log_probs(model, [model.begin, *targets[:-1]])
        expected = [log_probs[position, target] for position, target in enumerate(targets)]
        assert score.log_prob == pytest.approx(sum(expected), abs=1e-4)
        assert (score.n_words, score.n_tokens) == (len(sentence), len(sentence) + 1)
        unknown = [p for p, target in zip(expected, targets, strict=True) if target == model.unknown]
        assert score.n_unknown == len(unknown)
        assert score.unknown_log_prob == pytest.approx(sum(unknown), abs=1e-4)


def test_steps_of_many_rows_agree_with_scores_and_follow_selected_rows() -> None:
    model = small_model()
    state = model.start(3)
    assert len(state) == 3
    log_probs, state = model.step([model.begin] * 3, state)
    assert torch.allclose(log_probs.exp().sum(1), torch.ones(3), atol=1e-5)
    log_probs, state = model.step(torch.tensor([0, 1, model.unknown]), state)
    chosen = state.select([2, 0, 0])
    log_probs, _ = model.step([3, 1, 4], chosen)
    for row, history in enumerate(([model.unknown, 3], [0, 1], [0, 4])):
        expected = reference_log_probs(model, [model.begin, *history])[-1]
        assert log_probs[row].numpy() == pytest.approx(expected, abs=1e-4)


def test_next_words_and_samples() -> None:
    model = small_model()
    expected = np.exp(reference_log_probs(model, [model.begin, 0])[-1])
    found = model.next_words(["the"], 3)
    assert [p for _, p in found] == pytest.approx(sorted(expected[:5])[:-4:-1], abs=1e-5)
    assert found[0][0] == WORDS[int(expected[:5].argmax())]
    assert model.sample(4, seed=2) == model.sample(4, seed=2)
    assert {word for text in model.sample(20) for word in text.split()} <= set(WORDS)


def test_inclusion_probabilities_give_the_number_asked_for() -> None:
    counts = torch.tensor([10**6, 10**5, 0, *range(1, 1000)])
    inclusion = inclusion_probabilities(counts, 100)
    assert float(inclusion.sum()) == pytest.approx(100, rel=1e-6)
    assert inclusion[0] == inclusion[1] == 1
    assert inclusion[2] == inclusion[3]  # nothing and once
    assert bool((inclusion[3:].diff() >= 0).all())
    free = inclusion < 1
    ratio = inclusion[free] / counts[free].clamp(min=1).double() ** 0.75
    assert float(ratio.std() / ratio.mean()) < 1e-6


def softmax_problem(n_units: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(7, 5, generator=generator), torch.randn(n_units, 5, generator=generator)
    bias, targets = torch.randn(n_units, generator=generator), torch.randint(n_units, (7,), generator=generator)
    return hidden, weight, bias, targets


def test_sampled_loss_of_all_units_is_the_exact_one() -> None:
    hidden, weight, bias, targets = softmax_problem()
    everything, certain = torch.arange(40), torch.zeros(40)
    found = sampled_cross_entropy(hidden, targets, weight, bias, everything, certain)
    assert float(found) == pytest.approx(float(functional.cross_entropy(hidden @ weight.T + bias, targets)), rel=1e-5)


def test_sampled_denominator_is_unbiased() -> None:
    """Over many draws the mean of the estimated denominator is the true one, whether or not the target was drawn."""
    hidden, weight, bias, targets = softmax_problem()
    sampler = Sampler(torch.arange(40), 15, seed=3)
    logits = hidden @ weight.T + bias
    estimates = []
    for _ in range(4000):
        drawn, log_inclusion = sampler.draw()
        losses = [
            sampled_cross_entropy(hidden[row : row + 1], targets[row : row + 1], weight, bias, drawn, log_inclusion)
            for row in range(3)
        ]
        estimates.append([math.exp(loss) * math.exp(logits[row, targets[row]]) for row, loss in enumerate(losses)])
    mean, deviation = np.mean(estimates, axis=0), np.std(estimates, axis=0) / math.sqrt(len(estimates))
    exact = logits[:3].exp().sum(1).numpy()
    assert np.all(np.abs(mean - exact) < 4 * deviation)


def test_row_adam_is_adam_where_every_row_is_used() -> None:
    torch.manual_seed(0)
    table = torch.randn(6, 3)
    peer = table.clone().requires_grad_()
    optimizer, rows = torch.optim.Adam([peer], lr=0.1, betas=(0.9, 0.99), eps=1e-8), RowAdam(table)
    for _ in range(5):
        gradient = torch.randn(6, 3)
        peer.grad = gradient.clone()
        optimizer.step()
        order = torch.randperm(6)
        rows.step(order, gradient[order], lr=0.1)
    assert torch.allclose(table, peer, atol=1e-5)
    before = table.clone()
    rows.step(torch.tensor([4]), torch.ones(1, 3), lr=0.1)
    changed = (table != before).any(1)
    assert changed.tolist() == [False, False, False, False, True, False]


def test_step_learns_by_truncated_backpropagation() -> None:
    """One step against the same network trained by plain torch: the loss, the state carried over, every weight after it."""
    torch.manual_seed(1)
    ours, peer = LstmNetwork(SMALL, 7), LstmNetwork(SMALL, 7)
    peer.load_state_dict(ours.state_dict())
    config = LstmConfig(samples=0, clip_norm=0.5, lr=0.01, warmup_fraction=0.0, final_fraction=1.0)
    stepper = Stepper(config, ours, torch.ones(7), seed=1, total_steps=10, precision=torch.float32)
    optimizer = torch.optim.Adam(peer.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    tokens = torch.randint(7, (4, 13))
    state = peer_state = None
    for window in range(3):
        part = tokens[:, 4 * window : 4 * window + 5]
        loss, state = stepper.step(part[:, :-1], part[:, 1:], state)
        hidden, peer_state = peer(part[:, :-1], peer_state.detach() if peer_state is not None else None)
        peer_loss = functional.cross_entropy(peer.log_probs(hidden).flatten(0, 1), part[:, 1:].flatten())
        optimizer.zero_grad()
        peer_loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.5)
        optimizer.step()
        assert loss == pytest.approx(peer_loss.item(), rel=1e-5)
    for name, tensor in peer.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], tensor, atol=2e-6), name


def test_rate_rises_and_falls() -> None:
    config = LstmConfig(warmup_fraction=0.2, final_fraction=0.1)
    factors = [rate_factor(done / 100, config) for done in range(101)]
    assert factors[20] == max(factors) == 1
    assert factors[10] == pytest.approx(0.5)
    assert factors[60] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)


def test_stream_holds_every_sentence_once_in_an_order_of_its_own() -> None:
    rng = random.Random(1)
    sentences = [[WORDS[rng.randrange(5)] for _ in range(rng.randrange(6))] for _ in range(200)]
    vocabulary = Vocabulary(WORDS[:4], (1, 1, 1, 1))
    tokens = encode(sentences, 200, Words(), vocabulary)
    streams = [tokens.stream(4, (1, epoch)) for epoch in (0, 0, 1)]
    assert streams[0].tolist() == streams[1].tolist() != streams[2].tolist()
    expected = sorted([vocabulary.indices.get(word, 5) for word in sentence] for sentence in sentences)
    for stream in streams:
        assert stream[0] == stream[-1] == 4
        found: list[list[int]] = []
        sentence: list[int] = []
        for index in stream[1:].tolist():
            if index == 4:
                found.append(sentence)
                sentence = []
            else:
                sentence.append(index)
        assert sorted(found) == expected
    counts = tokens.counts(6, 4)
    assert counts.tolist() == np.bincount(streams[0][1:], minlength=6).tolist()


def test_rows_are_pieces_of_the_stream() -> None:
    inputs, targets = as_rows(np.arange(17), 3)
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    assert (targets == inputs + 1).all()
    assert Tokens(np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64)).stream(4, (1, 0)).tolist() == [4]


# A language that is easily learned: after "the" a noun, after a noun its verb and the end.
VERBS = {"cat": "meows", "dog": "barks", "cow": "moos", "duck": "quacks"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    rng = random.Random(7)
    nouns = [rng.choice(list(VERBS)) for _ in range(1500)]
    path = tmp_path / "text.txt"
    path.write_text("".join(f"The {noun} {VERBS[noun]}.\n" for noun in nouns))
    return path


def overrides_of(text: Path, *overrides: str) -> list[str]:
    return [
        "lm=lstm", f"text=[{text}]", f"output={text.parent / 'lm'}", "lm.embedding_size=16", "lm.hidden_size=16",
        "lm.layers=1", "lm.rows=8", "lm.steps=10", "lm.epochs=2", "lm.lr=0.02", "lm.precision=float32",
        "lm.accelerator=cpu", "lm.samples=4", "lm.dropout=0.1", "lm.held_out=0.02", *overrides,
    ]  # fmt: skip


def config_of(text: Path, *overrides: str) -> LstmTraining:
    config = compose_training(overrides_of(text, *overrides))
    assert isinstance(config, LstmTraining)
    return config


def test_training_learns_a_simple_language_and_writes_its_package(text: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asr")
    assert train_lstm(config_of(text, "lm.dropout=0")) == 0
    folder = text.parent / "lm"
    names = ["README.md", "config.yaml", "model.safetensors", "train.log", "vocabulary.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(path.name for path in text.parent.iterdir()) == ["lm", "text.txt"]
    model = load_language_model(folder)
    assert isinstance(model, LstmModel)
    words = dict(model.next_words(["the"], 4))
    assert set(words) == set(VERBS)
    assert all(0.1 < p < 0.4 for p in words.values())
    assert model.next_words(["the", "cow"], 1)[0][0] == "moos"
    # Nothing but the noun is uncertain: 4 choices in 4 predictions give a perplexity of the fourth root of 4.
    facts = yaml.safe_load((folder / "config.yaml").read_text())["training"]
    assert 4**0.25 < facts["dev_perplexity"]["perplexity"] < 1.6
    assert "dev perplexity" in caplog.text
    assert re.search(r"done in \d+ s, peak memory \d\.\d\d GiB: perplexity \d", (folder / "train.log").read_text())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Send this process the signal of Ctrl-C in the given steps."""
    original, number = Stepper.step, itertools.count(1)

    def step(self: Stepper, inputs: torch.Tensor, targets: torch.Tensor, state: object) -> object:
        if next(number) in steps:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, inputs, targets, state)  # type: ignore[arg-type]

    monkeypatch.setattr(Stepper, "step", step)


def test_interrupted_run_goes_on_as_if_it_had_not_been(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_lstm(config_of(text)) == 0
    expected = weights_of(text.parent / "lm")
    before = (text.parent / "lm" / "config.yaml").read_text()
    for step in (17, 60):  # in the first epoch, and in what then is left of the second
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            assert train_lstm(config_of(text)) == INTERRUPTED
    assert (text.parent / "lm" / "config.yaml").read_text() == before
    assert (text.parent / "lm.training" / LAST).is_file()
    assert train_lstm(config_of(text)) == 0
    for name, tensor in weights_of(text.parent / "lm").items():
        assert torch.equal(tensor, expected[name]), name


def test_second_interrupt_stops_at_once(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = signal.getsignal(signal.SIGINT)

    def twice(self: Stepper, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Stepper, "step", twice)
    with pytest.raises(KeyboardInterrupt):
        train_lstm(config_of(text))
    assert signal.getsignal(signal.SIGINT) is original
    assert not (text.parent / "lm.training" / LAST).exists()


@pytest.mark.parametrize("step", [9, 40])
def test_killed_run_goes_on_from_its_last_checkpoint(text: Path, step: int) -> None:
    """SIGKILL in a step leaves no time to save; what is trained again comes to the same weights."""
    assert train_lstm(config_of(text, "lm.threads=1")) == 0
    expected = weights_of(text.parent / "lm")
    shutil.rmtree(text.parent / "lm")
    code = (
        "import itertools, os, signal, sys\n"
        "from asr.cli import main\n"
        "from asr.language.lstm_step import Stepper\n"
        "original, number = Stepper.step, itertools.count(1)\n"
        "def step(*args):\n"
        f"    if next(number) == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(*args)\n"
        "Stepper.step = step\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["lm", "train", *overrides_of(text, "lm.checkpoint_minutes=1e-9", "lm.threads=1")]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in (text.parent / "lm.training").iterdir())[0] == LAST
    assert train_lstm(config_of(text, "lm.checkpoint_minutes=1e-9", "lm.threads=1")) == 0
    for name, tensor in weights_of(text.parent / "lm").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(("writer", "at"), [("torch.save", 25), ("safetensors.torch.save", 2)])
def test_full_disk_stops_the_run_and_spoils_nothing(text: Path, monkeypatch: pytest.MonkeyPatch, writer: str, at: int) -> None:
    """The disk is full for a checkpoint or the second package; the run goes on when there is room again."""
    assert train_lstm(config_of(text)) == 0
    expected = weights_of(text.parent / "lm")
    module, name = writer.rsplit(".", 1)
    original, number = getattr(importlib.import_module(module), name), itertools.count(1)

    def save(*args: Any, **settings: Any) -> Any:
        if next(number) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(writer, save)
        assert main(["lm", "train", *overrides_of(text, "lm.checkpoint_minutes=1e-9")]) == 1
    assert sorted(path.name for path in (text.parent / "lm.training").iterdir()) == [LAST, "package", "train.log"]
    assert train_lstm(config_of(text)) == 0
    for key, tensor in weights_of(text.parent / "lm").items():
        assert torch.equal(tensor, expected[key]), key


def test_run_that_cannot_go_on_is_refused(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        train_lstm(config_of(text))
    with pytest.raises(ConfigError, match=r"another lm\.hidden_size \(16\)"):
        train_lstm(config_of(text, "lm.hidden_size=8"))
    with pytest.raises(ConfigError, match="resume=false"):
        train_lstm(config_of(text, "resume=false"))
    content = text.read_text()
    text.write_text(content.replace("quacks", "sings"))
    with pytest.raises(ConfigError, match="another text"):
        train_lstm(config_of(text))
    text.write_text(content)
    checkpoint = text.parent / "lm.training" / LAST
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(DataError, match="corrupt"):
        train_lstm(config_of(text))


def test_training_ends_where_dev_no_longer_improves(text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asr")
    dev = tmp_path / "dev.txt"
    dev.write_text("barks the meows\n" * 5)  # gets less likely the more is learned
    assert train_lstm(config_of(text, f"dev=[{dev}]", "lm.epochs=50", "lm.patience=3", "lm.validations=10")) == 0
    log = (tmp_path / "lm" / "train.log").read_text()
    assert "no better perplexity in 3 measurements" in log
    assert "epoch 9/50" not in log


def test_diverging_training_stops_with_advice(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.language.lstm_step.sampled_cross_entropy", lambda hidden, *_: (hidden * math.nan).sum())
    with pytest.raises(TrainingDiverged, match=r"loss is nan .* in step 1.*lm\.lr"):
        train_lstm(config_of(text))
    assert not (text.parent / "lm").exists()


def test_training_without_measuring_keeps_the_last_weights(text: Path) -> None:
    assert train_lstm(config_of(text, "lm.held_out=0", "lm.samples=0")) == 0
    assert yaml.safe_load((text.parent / "lm" / "config.yaml").read_text())["training"]["dev_perplexity"] is None
    assert load_language_model(text.parent / "lm").next_words(["the", "dog"], 1)[0][0] == "barks"


def test_model_of_pieces(text: Path) -> None:
    assert train_lstm(config_of(text, "lm.unit=subword", "lm.vocabulary_size=34", "lm.epochs=4")) == 0
    model = load_language_model(text.parent / "lm")
    assert model.unit == "subword"
    assert any(word.startswith("▁") for word in model.words)
    words = model.next_words(["the"], 4)
    assert {word for word, _ in words} == set(VERBS)
    assert 0.8 < sum(p for _, p in words) <= 1.0001
    [score] = model.score([["the", "duck", "quacks"]])
    assert score.n_tokens > 4
    assert score.log_prob == pytest.approx(math.log(0.25), abs=0.5)
    assert any(text in {f"the {noun} {verb}" for noun, verb in VERBS.items()} for text in model.sample(5))


def test_bfloat16_is_used_only_where_the_processor_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(precision: str) -> torch.dtype:
        return choose_device(LstmConfig(accelerator="cpu", precision=precision))[1]

    monkeypatch.setattr("asr.language.lstm_training.has_bfloat16", lambda device: True)
    assert [chosen(name) for name in ("auto", "bfloat16", "float32")] == [torch.bfloat16, torch.bfloat16, torch.float32]
    monkeypatch.setattr("asr.language.lstm_training.has_bfloat16", lambda device: False)
    assert [chosen(name) for name in ("auto", "float32")] == [torch.float32] * 2
    with pytest.raises(ConfigError, match=r"lm\.precision=bfloat16"):
        chosen("bfloat16")


def test_too_little_text_and_missing_gpu_are_refused(text: Path) -> None:
    text.write_text("the cat\n")
    with pytest.raises(DataError, match=r"too few for lm\.rows=8"):
        train_lstm(config_of(text))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"lm\.accelerator=gpu"):
            train_lstm(config_of(text, "lm.accelerator=gpu"))
    (text.parent / "lm").mkdir()
    (text.parent / "lm" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not a language model package"):
        train_lstm(config_of(text))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lstm")
    (folder / "text.txt").write_text("The cat meows.\nThe dog barks.\n" * 100)
    assert train_lstm(config_of(folder / "text.txt", "lm.epochs=6")) == 0
    return folder / "lm"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hidden_size: 16", "hidden_size: 17", "not the weights of the network"),
        ("hidden_size: 16", "hidden_size: 10000", "expected 1 to 8192"),
        ("hidden_size: 16", "hidden_size: many", "expected integers"),
        ("hidden_size: 16", "units: 16", "expected embedding_size"),
        ("unit: word", "unit: subword", "tokenizer"),
    ],
)
def test_package_that_does_not_fit_is_refused(trained: Path, tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = copy_of(trained, tmp_path)
    content = (folder / "config.yaml").read_text()
    assert old in content
    (folder / "config.yaml").write_text(content.replace(old, new))
    with pytest.raises(PackageError, match=words):
        load_language_model(folder)


def test_weights_that_are_none_are_refused(trained: Path, tmp_path: Path) -> None:
    import hashlib

    folder = copy_of(trained, tmp_path)
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    weights = weights_of(folder)
    weights["bias"][0] = math.nan
    for content, words in ((safetensors.torch.save(weights), "NaN"), (b"PK\x03\x04", "not a safetensors file")):
        (folder / "model.safetensors").write_bytes(content)
        config = (trained / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace(before, hashlib.sha256(content).hexdigest()))
        with pytest.raises(PackageError, match=words):
            load_language_model(folder)
    with pytest.raises(ConfigError, match="device 'moon' cannot be used"):
        load_language_model(trained, "moon")


def copy_of(folder: Path, target: Path) -> Path:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_commands(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = tmp_path / "dev.txt"
    dev.write_text("The cat barks\n")
    assert main(["lm", "score", str(trained), str(dev), "--compare", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "LSTM (1 x 16, " in out
    assert "no clear difference" in out
    assert main(["lm", "predict", "the", "--model", str(trained), "-n", "2"]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()} == {"cat", "dog"}
    assert main(["lm", "sample", "--model", str(trained), "-n", "2", "--seed", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_training_on_a_gpu(text: Path) -> None:
    assert train_lstm(config_of(text, "lm.accelerator=gpu", "lm.precision=bfloat16")) == 0
    assert load_language_model(text.parent / "lm", "cuda").next_words(["the", "cow"], 1)[0][0] == "moos"
