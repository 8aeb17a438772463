"""LSTM language models: the network, its loss and optimiser, its text."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional
from torch.utils.data import DataLoader

from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_data import Tokens, encode
from asr.language.lstm_module import LstmModule, RowAdam, rate_factor
from asr.language.lstm_windows import as_rows
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
    found, log_sums = sampled_cross_entropy(hidden, targets, weight, bias, everything, certain)
    logits = hidden @ weight.T + bias
    assert float(found) == pytest.approx(float(functional.cross_entropy(logits, targets)), rel=1e-5)
    assert log_sums.numpy() == pytest.approx(logits.logsumexp(1).numpy(), rel=1e-5)


def test_sampled_denominator_is_unbiased() -> None:
    """Over many draws the mean of the estimated denominator is the true one, whether or not the target was drawn."""
    hidden, weight, bias, targets = softmax_problem()
    torch.manual_seed(3)
    sampler = Sampler(torch.arange(40), 15)
    logits = hidden @ weight.T + bias
    estimates = []
    for _ in range(4000):
        drawn, log_inclusion = sampler.draw(torch.device("cpu"))
        losses = [
            sampled_cross_entropy(hidden[row : row + 1], targets[row : row + 1], weight, bias, drawn, log_inclusion)[0]
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
    optimizer, rows = torch.optim.Adam([peer], lr=0.1, betas=(0.9, 0.99), eps=1e-8), RowAdam(6, 3)
    for _ in range(5):
        gradient = torch.randn(6, 3)
        peer.grad = gradient.clone()
        optimizer.step()
        order = torch.randperm(6)
        rows.step(table, order, gradient[order], lr=0.1)
    assert torch.allclose(table, peer, atol=1e-5)
    before = table.clone()
    rows.step(table, torch.tensor([4]), torch.ones(1, 3), lr=0.1)
    changed = (table != before).any(1)
    assert changed.tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_step_learns_by_truncated_backpropagation(penalty: float, tmp_path: Path) -> None:
    """Steps against the same network trained by plain torch: the losses, the state carried over, every weight after it."""
    sizes = {"embedding_size": 6, "hidden_size": 5, "layers": 2, "dropout": 0.0, "rows": 4, "epochs": 1}
    rates = {"clip_norm": 0.5, "lr": 0.01, "warmup_fraction": 0.0, "final_fraction": 1.0}
    config = LstmConfig(samples=0, self_normalisation=penalty, **sizes, **rates)  # type: ignore[arg-type]
    torch.manual_seed(1)
    ours, peer = LstmNetwork(SMALL, 7), LstmNetwork(SMALL, 7)
    peer.load_state_dict(ours.state_dict())
    module = LstmModule(config, LstmModel(ours, Words(), WORDS, None, ""), torch.ones(7), seed=1, total_steps=10)
    tokens = torch.randint(7, (4, 13))
    windows = [tokens[:, 4 * window : 4 * window + 5] for window in range(3)]
    plain: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **plain)
    loader: Any = DataLoader([(part[:, :-1], part[:, 1:]) for part in windows], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader)
    optimizer = torch.optim.Adam(peer.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    peer_state = None
    for part, loss in zip(windows, module.losses, strict=True):
        hidden, peer_state = peer(part[:, :-1], peer_state.detach() if peer_state is not None else None)
        peer_loss = functional.cross_entropy(peer.log_probs(hidden).flatten(0, 1), part[:, 1:].flatten())
        log_sums = functional.linear(hidden, peer.embedding.weight, peer.bias).exp().sum(-1).log()
        optimizer.zero_grad()
        (peer_loss + penalty * (log_sums**2).mean()).backward()
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
