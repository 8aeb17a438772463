"""The model: lengths, batch invariance, normalisation, the backward direction, initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from asr.compose import compose
from asr.config import CnnConfig, FrontendConfig, HeadConfig, ModelConfig, RecurrentConfig
from asr.features import length_mask
from asr.model.acoustic import SpeechModel
from asr.model.cnn import Cnn
from asr.model.device import has_bfloat16
from asr.model.norm import FrameLayerNorm, LockedDropout, MaskedBatchNorm
from asr.model.recurrent import RecurrentLayer, RecurrentStack, reverse_index

CELLS = ("rnn", "lstm", "gru", "peephole_lstm", "coupled_lstm", "window_mlp", "none")
N_SAMPLES = [31999, 16000, 9000, 8000, 401, 1]


def small_model(
    frontend: FrontendConfig, norm: str = "layer", cell: str = "lstm", *, bidirectional: bool = True
) -> SpeechModel:
    config = ModelConfig(
        cnn=CnnConfig(
            channels=[8, 12],
            time_kernels=[5, 3],
            frequency_kernels=[5, 3],
            time_strides=[2, 2],
            frequency_strides=[2, 2],
            norm=norm,
        ),
        recurrent=RecurrentConfig(cell=cell, layers=2, hidden_size=24, norm=norm, bidirectional=bidirectional),
        head=HeadConfig(hidden_sizes=[32]),
    )
    torch.manual_seed(5)
    model = SpeechModel(frontend, config, n_tokens=7)
    for module in model.modules():
        if isinstance(module, MaskedBatchNorm):  # as after some training
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def utterances() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [0.1 * torch.randn(n, generator=generator) for n in N_SAMPLES]


FRONTENDS = [
    FrontendConfig(kind=kind, normalisation=normalisation)
    for kind in ("log_mel", "mfcc", "spectrogram")
    for normalisation in ("utterance", "corpus", "none")
]


@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: f"{f.kind}-{f.normalisation}")
@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_batch_invariance(frontend: FrontendConfig, norm: str) -> None:
    """Alone, padded in a batch, in another order, beside garbage: the same features and log-probabilities."""
    model = small_model(frontend, norm)
    waveforms = utterances()
    n_samples = torch.tensor(N_SAMPLES)
    padded = pad_sequence(waveforms, batch_first=True)
    order = torch.randperm(len(waveforms), generator=torch.Generator().manual_seed(3))
    garbage = torch.where(length_mask(n_samples, padded.shape[1]), padded, 7.0)
    garbage = nn.functional.pad(garbage, (0, 12345), value=-3.0)
    with torch.no_grad():
        variants = [model(padded, n_samples), model(garbage, n_samples)]
        shuffled, n_shuffled = model(padded[order], n_samples[order])
        inverse = order.argsort()
        variants.append((shuffled[inverse], n_shuffled[inverse]))
        for i, waveform in enumerate(waveforms):
            features, n_frames = model.features(waveform[None], n_samples[i : i + 1])
            batch_features, _ = model.features(padded, n_samples)
            # The DCT's sums of some 40 are exact to 8e-6, and normalised by a deviation of 0.07 over three frames.
            atol = 1e-4 if frontend.kind == "mfcc" and frontend.normalisation == "utterance" else 1e-5
            torch.testing.assert_close(batch_features[i, : n_frames[0]], features[0], atol=atol, rtol=1e-6)
            alone, n_alone = model(waveform[None], n_samples[i : i + 1])
            assert alone.shape[1] == n_alone[0]
            for log_probs, n_out in variants:
                assert n_out[i] == n_alone[0]
                torch.testing.assert_close(log_probs[i, : n_out[i]], alone[0], atol=1e-5, rtol=0)
                assert torch.equal(log_probs[i, : n_out[i]].argmax(1), alone[0].argmax(1))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_cell_is_batch_invariant(cell: str, bidirectional: bool) -> None:
    model = small_model(FrontendConfig(), cell=cell, bidirectional=bidirectional)
    waveforms = utterances()
    with torch.no_grad():
        log_probs, n_out = model(pad_sequence(waveforms, batch_first=True), torch.tensor(N_SAMPLES))
        for i, waveform in enumerate(waveforms):
            alone, _ = model(waveform[None], torch.tensor([len(waveform)]))
            torch.testing.assert_close(log_probs[i, : n_out[i]], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [[1, 1], [2, 1], [2, 2], [3, 2]])
@pytest.mark.parametrize("kernel", [[1, 3], [5, 3], [11, 11]])
def test_output_lengths_are_exact(stride: list[int], kernel: list[int]) -> None:
    config = CnnConfig(
        channels=[2, 2],
        time_kernels=kernel,
        frequency_kernels=[3, 3],
        time_strides=stride,
        frequency_strides=[2, 1],
        norm="none",
    )
    cnn = Cnn(config, n_features=20)
    for n in range(1, 40):
        n_frames = torch.tensor([n])
        output, n_out = cnn(torch.zeros(1, n, 20), n_frames)
        assert output.shape == (1, int(n_out[0]), cnn.output_size)
        assert torch.equal(cnn.output_lengths(n_frames), n_out)


def test_log_probs_are_normalised() -> None:
    model = small_model(FrontendConfig())
    log_probs, _ = model(utterances()[0][None], torch.tensor([N_SAMPLES[0]]))
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(log_probs.shape[:2]))


def test_reverse_index() -> None:
    assert reverse_index(torch.tensor([0, 1, 3]), 4).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 1, 0, 3]]


def test_backward_direction_equals_packed_sequence() -> None:
    """Outputs and gradients equal those of torch's own bidirectional LSTM over a packed sequence."""
    torch.manual_seed(0)
    layer = RecurrentLayer(RecurrentConfig(hidden_size=6, norm="none", dropout=0.0), input_size=5)
    reference = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
    with torch.no_grad():
        assert layer.backward_cell is not None
        for suffix, cell in (("", layer.forward_cell), ("_reverse", layer.backward_cell)):
            for name, parameter in cell.named_parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
                getattr(reference, name + suffix).copy_(parameter)
    lengths = torch.tensor([9, 4, 1])
    x = torch.randn(3, 9, 5, requires_grad=True)
    packed, _ = reference(pack_padded_sequence(x, lengths, batch_first=True))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    found = layer(x, lengths) * length_mask(lengths, 9)[:, :, None]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    weight = torch.randn_like(expected)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-5)


def test_masked_batch_norm_equals_batch_norm_of_the_valid_frames() -> None:
    lengths = torch.tensor([5, 2])
    mask = length_mask(lengths, 5)
    x = torch.randn(2, 3, 5, 4)
    garbage = torch.where(mask[:, None, :, None], x, torch.tensor(99.0))
    norm, reference = MaskedBatchNorm(3), nn.BatchNorm1d(3, eps=1e-3)
    valid = x.permute(0, 2, 3, 1)[mask].reshape(-1, 3)
    expected = reference(valid)
    found = norm(garbage, mask).permute(0, 2, 3, 1)[mask].reshape(-1, 3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    flat = MaskedBatchNorm(3)
    torch.testing.assert_close(
        flat(garbage[..., 0].transpose(1, 2), mask)[mask], nn.BatchNorm1d(3, eps=1e-3)(x[..., 0].transpose(1, 2)[mask])
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_statistics_of_half_types_are_those_of_their_values_in_float32(kind: torch.dtype) -> None:
    x = (1000 * torch.randn(4, 50, 3)).to(kind)  # squares beyond float16's 65,504
    mask = length_mask(torch.tensor([50, 30, 20, 7]), 50)
    norm = MaskedBatchNorm(3, momentum=1.0)
    assert norm(x, mask).isfinite().all()
    var, mean = torch.var_mean(x[mask].float(), dim=0, correction=0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=0.01)
    torch.testing.assert_close(norm.running_var, var, rtol=1e-4, atol=1.0)


def test_frame_layer_norm() -> None:
    x = torch.randn(2, 3, 5, 4)
    expected = nn.functional.layer_norm(x.transpose(1, 2), (3, 4)).transpose(1, 2)
    torch.testing.assert_close(FrameLayerNorm(3)(x), expected, atol=1e-5, rtol=1e-5)


def test_initialisation() -> None:
    layer = RecurrentLayer(RecurrentConfig(hidden_size=8, forget_bias=1.5), input_size=5)
    cell = layer.forward_cell
    parameters = dict(cell.named_parameters())
    for gate in parameters["weight_hh_l0"].split(8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
    bias = parameters["bias_ih_l0"] + parameters["bias_hh_l0"]
    assert bias.tolist() == [0.0] * 8 + [1.5] * 8 + [0.0] * 16


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="the processor has no bfloat16")
def test_mixed_precision_keeps_features_in_float32() -> None:
    model = small_model(FrontendConfig())
    waveform = utterances()[0][None]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        features, _ = model.features(waveform, torch.tensor([N_SAMPLES[0]]))
        log_probs, _ = model(waveform, torch.tensor([N_SAMPLES[0]]))
    assert features.dtype == log_probs.dtype == torch.float32


def test_locked_dropout_has_one_mask_an_utterance() -> None:
    torch.manual_seed(0)
    dropout = LockedDropout(0.25)
    y = dropout(torch.ones(50, 7, 40))
    assert torch.equal(y, y[:, :1].expand_as(y))
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(y[0], y[1])
    x = torch.randn(2, 3, 4)
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("cell", CELLS[:5])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_stack_that_goes_on_from_its_state_reads_as_if_in_one(cell: str, norm: str) -> None:
    torch.manual_seed(3)
    config = RecurrentConfig(cell=cell, layers=2, hidden_size=6, bidirectional=False, norm=norm)
    stack = RecurrentStack(config, 4).eval()
    x = torch.randn(3, 11, 4)
    whole = stack(x, torch.tensor([11, 11, 11]))[-1]
    pieces, states = [], None
    for part in x.split([4, 1, 6], dim=1):
        y, states = stack.forward_from(part, torch.full((3,), part.shape[1]), states)
        pieces.append(y)
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-6)
    afresh, _ = stack.forward_from(x[:, 4:5], torch.ones(3), None)
    assert not torch.allclose(afresh, whole[:, 4:5], atol=1e-3)


def test_recipes_of_cells_have_equally_many_parameters() -> None:
    counts = {}
    for cell in CELLS:
        config = compose([f"+recipe=cells/{cell}"])
        assert config.model.recurrent.cell == cell
        model = SpeechModel(config.frontend, config.model, n_tokens=28)
        counts[cell] = sum(parameter.numel() for parameter in model.parameters())
    assert all(abs(count / counts["lstm"] - 1) < 0.03 for count in counts.values()), counts
