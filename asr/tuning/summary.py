"""What a search found, in words."""

from __future__ import annotations

from collections.abc import Sequence

from asr.scoring.signature import signature
from asr.tuning.keys import BEAM, SECTION
from asr.tuning.run import Tuned
from asr.tuning.tuner import Tuning


def title(manifests: Sequence[str], tuning: Tuning) -> str:
    """Return the title of the picture."""
    return (
        f"{', '.join(manifests)} ({tuning.best.n_utterances} utterances), {tuning.config.kind}: "
        f"WER {100 * tuning.best.wer:.2f} %"
    )


def summary(tuned: Tuned) -> str:
    """Return the lines that ``asr tune`` prints at its end."""
    package, manifests, posteriors, tuning = tuned.package, tuned.manifests, tuned.posteriors, tuned.tuning
    score, ids = tuning.decoded.score, {row.id for row in tuning.decoded.score.utterances}
    lines = [f"{', '.join(manifests)}: {len(ids)} utterances, {tuning.best.audio_s / 3600:.3f} h, {len(tuning.trials)} trials"]
    if len(ids) < len(posteriors.ids):
        lines.append(f"no setting was tried on all {len(posteriors.ids)} utterances")
    if tuned.before is not None:
        lines.append(f"{tuned.before.score.wer.line('before: WER')}  {tuned.before.decoder}")
    references = {name: text for name, text in zip(posteriors.ids, posteriors.texts, strict=True) if name in ids}
    settings = [f"kind={tuning.config.kind}", *(f"{name}={value:g}" for name, value in tuning.best.settings.items())]
    made_of = signature(
        checkpoint=package.checkpoint_hash,
        corpus=manifests,
        references=references,
        decoder=tuning.decoded.decoder,
        normaliser=package.tokenizer.normaliser,
    )
    return "\n".join(
        [
            *lines,
            score.summary(),
            "settings " + " ".join(SECTION + setting for setting in settings),
            *at_the_ends(tuning),
            f"signature {made_of}",
        ]
    )


def at_the_ends(tuning: Tuning) -> list[str]:
    """Return a line for each key whose best value lies at a bound that is not the setting's own."""
    lines = []
    for key in tuning.keys:
        value, own = tuning.best.settings[key.name], key.option.field.metadata
        bounds = [bound for bound, limit in ((key.low, own["low"]), (key.high, own["high"])) if bound != limit]
        # Beams are doubles of the first one, which need not meet the bound, and a small one is no fault.
        if value * 2 > key.high if key.name == BEAM else value in bounds:
            wider = f"--keys {SECTION}{key.name}=LOW:HIGH"
            lines.append(
                f"{SECTION}{key.name}={value:g} lies at the end of its range, {key.low:g} to {key.high:g}; widen it: {wider}"
            )
    return lines
