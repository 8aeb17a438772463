"""The sum over all paths of CTC weighted by an n-gram of their labels, with its gradient written out.

With ``y[t, k]`` the probability of token ``k`` in frame ``t``, and ``L(p)`` what is left of a path when repeats are merged and
blanks dropped ::

    Z = sum over all paths p of  P(L(p)) * product over t of y[t, p[t]]

A state is the context of the next label, at most the last two, and whether a blank has followed them. ``n[g]`` is the sum over
paths that are in context ``g`` without a blank, ``b[g]`` that with one. A frame makes of them, where ``g`` ends in the label
``l`` and follows from the contexts ``h`` by it ::

    n'[g] = y[l] * (n[g] + sum over h of P(l | h) * (b[h] + n[h] if h does not end in l))
    b'[g] = y[blank] * (n[g] + b[g])

So a frame is one batched matrix product and a few operations by element. Its sums are divided by their total; the logarithms of
these add up to that of ``Z``. The derivative of ``log Z`` by ``log y[t, k]`` is the probability that frame ``t`` holds ``k``,
given everything: the product of such sums over what is before and over what comes after.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from asr.ctc import BLANK

MAX_ORDER = 3


def denominator(log_probs: torch.Tensor, n_frames: torch.Tensor, ngram: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the sum over all paths, each its frames' probabilities times the n-gram's of its labels.

    It is computed in float32 whatever ``torch.autocast`` says, or in float64 where ``log_probs`` is. For its gradient it keeps
    two numbers a context and frame: with 50 tokens and a trigram 20 kB a frame of each utterance. That frame costs
    ``4 * contexts * tokens`` operations (of a trigram 0.5 million), and as many backward.

    Parameters
    ----------
    log_probs
        ``(batch, frame, token)`` natural logarithms, which need not be normalised.
    n_frames
        ``(batch,)`` integers; 0 leaves the probability of an empty sentence.
    ngram
        Positive probabilities as :func:`asr.crf.ngram.estimate_ngram` returns them, of order 1 to 3.

    Returns
    -------
    torch.Tensor
        ``(batch,)``, in nats.
    """
    if not 1 <= ngram.dim() <= MAX_ORDER or ngram.shape[-1] != log_probs.shape[2]:
        raise ValueError(f"an n-gram of shape {tuple(ngram.shape)} for {log_probs.shape[2]} tokens")
    log_z: torch.Tensor = _Denominator.apply(log_probs, n_frames, ngram)
    return log_z


class _Denominator(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs: torch.Tensor, n_frames: torch.Tensor, ngram: torch.Tensor) -> torch.Tensor:
        # Autocast leaves alone what is given its place (out=), so the products are in float32.
        dtype = torch.promote_types(log_probs.dtype, torch.float32)
        frames = torch.arange(log_probs.shape[1], device=log_probs.device)
        valid = frames[:, None] < n_frames.to(log_probs.device)
        emissions, peaks = _emissions(log_probs.to(dtype), valid)
        arcs, ends = _arcs(ngram.to(log_probs.device, dtype))
        states, totals = _sum_forward(emissions, arcs, keep=ctx.needs_input_grad[0])
        end = (states[-1] / totals[-1] * ends).sum((0, 1, 2))
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(emissions, arcs, states, totals, ends, valid)
        return totals.log().sum(0) + end.log() + peaks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        *sums, valid = ctx.saved_tensors
        posteriors = _sum_backward(*sums) * valid[:, None]
        return (posteriors * gradient).permute(2, 0, 1), None, None


def _emissions(log_probs: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities by frame and state, relative to the frame's highest, and the logarithms of those, summed.

    Frames of padding are blanks of probability 1, which change no sum: so lengths need no further care.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        ``(frame, 2, 1, token, batch)``, for the newest token without and with a blank; ``(batch,)``.
    """
    by_frame = log_probs.permute(1, 2, 0)  # the batch last: operations by state are over whole rows of it
    padding = torch.full_like(by_frame[0, :, :1], -torch.inf)
    padding[BLANK] = 0.0
    by_frame = torch.where(valid[:, None], by_frame, padding)
    peaks = by_frame.amax(1, keepdim=True)
    y = (by_frame - peaks).exp()
    return torch.stack([y, y[:, :1].expand_as(y)], 1).unsqueeze(2), peaks.sum((0, 1))


def _arcs(ngram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the n-gram as matrices of a frame's product, and the probabilities of the end.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        ``(group, token, 2 * source)``: from contexts without and with a blank to their next label; a trigram's groups are the
        newest tokens, its sources those before. ``(1, older, newest, 1)``, with one older token where there is no trigram.
    """
    n_tokens = ngram.shape[-1]
    if ngram.dim() == 1:
        ngram = ngram.expand(n_tokens, n_tokens)
    is_trigram = ngram.dim() == MAX_ORDER
    by_context = ngram.reshape(-1, n_tokens, n_tokens)
    ends = by_context[None, :, :, BLANK, None]
    labels = by_context.clone()
    labels[..., BLANK] = 0.0
    repeats = torch.eye(n_tokens, device=ngram.device, dtype=torch.bool)
    both = torch.stack([labels.masked_fill(repeats, 0.0), labels])  # without a blank a token cannot follow itself
    both = both.permute(2, 3, 0, 1) if is_trigram else both.permute(1, 3, 0, 2)
    return both.flatten(2).contiguous(), ends


def _by_group(states: torch.Tensor, n_groups: int) -> torch.Tensor:
    """View ``(2, older, newest, batch)`` as the product wants it: ``(group, 2 * source, batch)``."""
    batch = states.shape[-1]
    return states.view(1, -1, batch) if n_groups == 1 else states.view(-1, n_groups, batch).transpose(0, 1)


def _by_state(grouped: torch.Tensor) -> torch.Tensor:
    """View ``(group, 2 * source, batch)`` as ``(2, older, newest, batch)``."""
    n_groups, sources, batch = grouped.shape
    by_blank = grouped.view(n_groups, 2, sources // 2, batch)
    return by_blank.transpose(0, 1) if n_groups == 1 else by_blank.permute(1, 2, 0, 3)


def _sum_forward(emissions: torch.Tensor, arcs: torch.Tensor, *, keep: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the forward sums before the first frame and after each, and their totals: 5 operations a frame.

    The sums after a frame are those of the frame before, divided by their total there, carried on.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        ``(frame + 1, 2, older, newest, batch)``, or of the newest two frames where they need not be kept, in turn;
        ``(frame + 1, batch)``.
    """
    n_frames, _, _, n_tokens, batch = emissions.shape
    n_groups = len(arcs)
    states = emissions.new_zeros(n_frames + 1 if keep else 2, 2, n_groups, n_tokens, batch)
    totals = emissions.new_ones(n_frames + 1, batch)
    before = states[0]
    before[1, 0, BLANK] = 1.0
    rows, sums = states.unbind(0), totals.unbind(0)
    for t, emission in enumerate(emissions.unbind(0)):
        after = rows[t + 1] if keep else rows[(t + 1) % 2]
        torch.baddbmm(before[0], arcs, _by_group(before, n_groups), out=after[0])
        torch.add(before[0], before[1], out=after[1])
        after *= emission / sums[t]
        torch.sum(after, (0, 1, 2), out=sums[t + 1])
        before = after
    return states if keep else before[None], totals


def _sum_backward(
    emissions: torch.Tensor, arcs: torch.Tensor, states: torch.Tensor, totals: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """Return the probability of each token in each frame, given everything, ``(frame, token, batch)``: 6 operations a frame.

    Parameters
    ----------
    emissions, arcs
        As for :func:`_sum_forward`.
    states, totals
        What it returned.
    ends
        ``(1, older, newest, 1)``: the end's probability from each context.
    """
    n_frames, _, _, n_tokens, batch = emissions.shape
    n_groups = len(arcs)
    reverse = arcs.transpose(1, 2)
    scaled = emissions / totals[1:, None, None, None]
    later = ends.expand(states.shape[1:]).contiguous()
    ahead, occupied = torch.empty_like(later), torch.empty_like(later)
    grouped = later.new_empty(n_groups, reverse.shape[1], batch)
    by_state = _by_state(grouped)
    posteriors = emissions.new_empty(n_frames, 2, n_tokens, batch)
    rows, sums, factors = states.unbind(0), posteriors.unbind(0), scaled.unbind(0)
    for t in range(n_frames - 1, -1, -1):
        torch.mul(rows[t + 1], later, out=occupied)
        torch.sum(occupied, 1, out=sums[t])
        torch.mul(later, factors[t], out=ahead)
        torch.bmm(reverse, ahead[0], out=grouped)
        torch.add(by_state, ahead[1], out=later)
        later[0] += ahead[0]
    labels, blanks = posteriors.unbind(1)
    labels[:, BLANK] = blanks.sum(1)
    return labels / labels.sum(1, keepdim=True)
