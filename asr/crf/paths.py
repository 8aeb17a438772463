"""The sum over all paths of CTC weighted by an n-gram of their labels, with its gradient written out.

With ``y[t, k]`` the probability of token ``k`` in frame ``t``, and ``L(p)`` what is left of a path when repeats are merged and
blanks dropped ::

    Z = sum over all paths p of  P(L(p)) * product over t of y[t, p[t]]

A state is the context of the next label, which is those before it, and whether a blank has followed them. ``n[g]`` is the sum
over paths that are in context ``g`` without a blank, ``b[g]`` that with one. A frame makes of them, where ``g`` ends in the
label ``l`` and follows from the contexts ``h`` by it ::

    n'[g] = y[l] * (n[g] + sum over h of P(l | h) * (b[h] + n[h] if h does not end in l))
    b'[g] = y[blank] * (n[g] + b[g])

So a frame is one batched matrix product and a few operations by element. Its sums are divided by their total; the logarithms of
these add up to that of ``Z``. The derivative of ``log Z`` by ``log y[t, k]`` is the probability that frame ``t`` holds ``k``,
given everything: the product of such sums over what is before and over what comes after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from asr.ctc import BLANK

KEPT_BYTES = 1 << 31
"""More of sums are not kept for the gradient: most are then computed anew, which takes about a third more time."""


def denominator(log_probs: torch.Tensor, n_frames: torch.Tensor, ngram: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the sum over all paths, each its frames' probabilities times the n-gram's of its labels.

    It is computed in float32 whatever ``torch.autocast`` says, or in float64 where ``log_probs`` is. A frame of an utterance
    costs 4 operations an entry of the n-gram, and as many backward: with 50 tokens and a trigram 0.5 million. For the gradient
    two numbers a context and frame are kept, there 20 kB a frame; where they are more than :data:`KEPT_BYTES`, those of about
    every square root of the frames.

    Parameters
    ----------
    log_probs
        ``(batch, frame, token)`` natural logarithms, which need not be normalised.
    n_frames
        ``(batch,)`` integers; 0 leaves the probability of an empty sentence.
    ngram
        Positive probabilities as :func:`asr.crf.ngram.estimate_ngram` returns them.

    Returns
    -------
    torch.Tensor
        ``(batch,)``, in nats.
    """
    if set(ngram.shape) != {log_probs.shape[2]}:
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
        shape = torch.Size([2, *ends.shape[1:3], len(log_probs)])
        length = _segment_length(shape, len(emissions)) if ctx.needs_input_grad[0] else max(1, len(emissions))
        kept, totals = _sum_forward(emissions, arcs, shape, length)
        if ctx.needs_input_grad[0]:
            ctx.length = length
            ctx.save_for_backward(emissions, arcs, ends, kept, totals, valid)
        end = (kept[-1] / totals[-1] * ends).sum((0, 1, 2))
        return totals.log().sum(0) + end.log() + peaks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        emissions, arcs, ends, kept, totals, valid = ctx.saved_tensors
        posteriors = _sum_backward(emissions, arcs, ends, kept, totals, ctx.length) * valid[:, None]
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
    padding = by_frame.new_full((by_frame.shape[1], 1), -torch.inf)
    padding[BLANK] = 0.0
    by_frame = torch.where(valid[:, None], by_frame, padding)
    peaks = by_frame.amax(1, keepdim=True)
    y = (by_frame - peaks).exp()
    return torch.stack([y, y[:, :1].expand_as(y)], 1).unsqueeze(2), peaks.sum((0, 1))


def _arcs(ngram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the n-gram as matrices of a frame's product, and the probabilities of the end.

    Contexts that are the same but for their oldest token lead to the same contexts: they are a group.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        ``(group, token, 2 * oldest)``: from contexts without and with a blank to their next label; ``(1, older, newest, 1)``.
    """
    n_tokens = len(ngram)
    if ngram.dim() == 1:
        ngram = ngram.expand(n_tokens, n_tokens)
    by_newest = ngram.reshape(-1, n_tokens, n_tokens)
    labels = by_newest.clone()
    labels[..., BLANK] = 0.0
    repeats = torch.eye(n_tokens, device=ngram.device, dtype=torch.bool)
    both = torch.stack([labels.masked_fill(repeats, 0.0), labels])  # without a blank a token cannot follow itself
    by_group = both.view(2 * n_tokens, -1, n_tokens).permute(1, 2, 0)
    return by_group.contiguous(), by_newest[None, :, :, BLANK, None]


def _segment_length(shape: torch.Size, n_frames: int) -> int:
    """Return of how many frames one is kept; 1 where the sums of all have room."""
    return 1 if 4 * shape.numel() * n_frames <= KEPT_BYTES else math.isqrt(n_frames)


def _sum_forward(
    emissions: torch.Tensor, arcs: torch.Tensor, shape: torch.Size, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums before every segment of ``length`` frames and at the end, and the totals after all frames.

    Parameters
    ----------
    emissions
        As from :func:`_emissions`.
    arcs
        As from :func:`_arcs`.
    shape
        Of the sums: 2, older, newest, batch.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        ``(segment + 1, *shape)``, ``(frame + 1, batch)``.
    """
    n_frames = len(emissions)
    kept = emissions.new_empty(math.ceil(n_frames / length) + 1, *shape)
    totals = emissions.new_ones(n_frames + 1, shape[-1])
    kept[0] = 0.0
    kept[0, 1, 0, BLANK] = 1.0
    spare = emissions.new_empty(2, *shape)
    rows = [kept[t // length] if t % length == 0 else spare[t % 2] for t in range(n_frames)]
    _carry([*rows, kept[-1]], emissions, arcs, totals)
    return kept, totals


def _carry(rows: Sequence[torch.Tensor], emissions: torch.Tensor, arcs: torch.Tensor, totals: torch.Tensor) -> None:
    """Compute the sums after each frame from those before it: 5 operations a frame.

    Parameters
    ----------
    rows
        Places of the sums before the first frame, which are given, and after each frame.
    totals
        Those of all rows, of which all but the first are computed. By them the sums are divided, but in the next frame only.
    """
    n_groups, n_tokens, _ = arcs.shape
    sums = totals.unbind(0)
    for t, emission in enumerate(emissions.unbind(0)):
        before, after = rows[t], rows[t + 1]
        sources = before.view(2 * n_tokens, n_groups, -1).transpose(0, 1)
        torch.baddbmm(_grouped(before, n_groups), arcs, sources, out=_grouped(after, n_groups))
        torch.add(before[0], before[1], out=after[1])
        after *= emission / sums[t]
        torch.sum(after, (0, 1, 2), out=sums[t + 1])


def _grouped(states: torch.Tensor, n_groups: int) -> torch.Tensor:
    """View the sums without a blank by the group that leads to them: ``(group, token, batch)``."""
    return states[0].view(n_groups, -1, states.shape[-1])


def _sum_backward(
    emissions: torch.Tensor, arcs: torch.Tensor, ends: torch.Tensor, kept: torch.Tensor, totals: torch.Tensor, length: int
) -> torch.Tensor:
    """Return the probability of each token in each frame, given everything, ``(frame, token, batch)``: 6 operations a frame.

    The parameters are what :func:`_emissions`, :func:`_arcs` and :func:`_sum_forward` take and return.
    """
    n_groups, n_tokens, n_sources = arcs.shape
    reverse = arcs.transpose(1, 2)
    later = ends.expand(kept.shape[1:]).contiguous()  # the sums of what comes after, of each state
    ahead, occupied = torch.empty_like(later), torch.empty_like(later)
    product = later.new_empty(n_groups, n_sources, later.shape[-1])
    posteriors = emissions.new_empty(len(emissions), 2, *emissions.shape[3:])
    spare = kept.new_empty(length - 1, *kept.shape[1:])
    # Views of these, made once.
    repeated, label, blank = later[0], _grouped(ahead, n_groups), ahead[1].view(n_tokens, n_groups, -1)
    by_state, found = later.view(2, n_tokens, n_groups, -1), product.view(n_groups, 2, n_tokens, -1).permute(1, 2, 0, 3)
    sums, factors = posteriors.unbind(0), (emissions / totals[1:, None, None, None]).unbind(0)
    for segment in range(len(kept) - 2, -1, -1):
        first = segment * length
        last = min(first + length, len(emissions))
        rows = [kept[segment], *spare[: last - first - 1].unbind(0), kept[segment + 1]]
        if len(rows) > 2:
            _carry(rows[:-1], emissions[first : last - 1], arcs, totals[first:last].clone())
        for t in range(last - 1, first - 1, -1):
            torch.mul(rows[t + 1 - first], later, out=occupied)
            torch.sum(occupied, 1, out=sums[t])
            torch.mul(later, factors[t], out=ahead)
            torch.bmm(reverse, label, out=product)
            torch.add(found, blank, out=by_state)
            repeated += ahead[0]
    labels, blanks = posteriors.unbind(1)
    labels[:, BLANK] = blanks.sum(1)
    return labels / labels.sum(1, keepdim=True)
