"""The card of a model package: what the model is, how good, how to use it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence, Sized
from typing import Protocol

from asr.config import Config, RecurrentConfig, TokensConfig
from asr.model.acoustic import SpeechModel
from asr.version import __version__

_CARD = """\
# {name}

A speech recogniser: convolutions, recurrent layers and CTC, trained with asr {version} on {date}.

| | |
|---|---|
| trained on | {train} |
{spoken}{started}| checkpoint chosen on | {dev} |
| parameters | {parameters:,} |
| audio | {sample_rate} Hz, one channel; other audio is converted |
| network | {network} |
| writes | {alphabet} |
| decoder | {decoder} |
| WER on the above dev manifests | {wer} |
| CER on the same | {cer} |

## Use

```
asr transcribe --model {folder} recording.mp3
asr evaluate {folder} MANIFEST
```

```python
import asr
print(asr.load_model("{folder}").transcribe("recording.mp3").text)
```

## Limits

The checkpoint was chosen by the dev score above, so expect a somewhat higher error rate on other recordings. Speech unlike the
training data (other languages, accents, microphones, noise, several voices at once) is recognised worse, often much worse.
The model writes only the characters above: no digits and no punctuation beyond them. Silence or music can yield stray letters.
Long recordings are cut at quiet places into short pieces, each recognised by itself.

## Licence

{licence}
"""


class Rate(Protocol):
    """What a card says of an error rate, such as :class:`asr.scoring.score.ErrorRate`."""

    def line(self, name: str) -> str:
        """Return the rate after its name, with interval and counts."""


class Measurement(Protocol):
    """What a card says of a measurement, such as :class:`asr.scoring.Score`."""

    @property
    def wer(self) -> Rate: ...

    @property
    def cer(self) -> Rate: ...

    @property
    def utterances(self) -> Sized: ...


def build_card(
    config: Config,
    model: SpeechModel,
    *,
    decoder: str,
    score: Measurement | None = None,
    folder: str = "PACKAGE",
    pretrained: str | None = None,
    synthesisers: Sequence[str] = (),
    licence: str = "The weights follow the terms of the data they were trained on; see the corpora named above.",
    date: datetime.date | None = None,
) -> str:
    """Return the text of ``README.md``.

    Parameters
    ----------
    config, model
        What was trained.
    decoder
        Signature of the decoder that made the score.
    score
        Score on the dev manifests; ``None`` says that none was made.
    folder
        What to call the package's folder in the examples.
    pretrained
        The package that training started from; ``None`` says that it started from random weights.
    synthesisers
        What spoke the synthetic part of what it was trained on, with versions and licences.
    licence
        One line about the weights' licence.
    date
        Day of the training's end; today if left out.
    """
    network = (
        f"{len(config.model.cnn.channels)} convolutions, {_recurrent_layers(config.model.recurrent)}, an output each "
        f"{1000 * model.frame_s:g} ms"
    )
    return _CARD.format(
        name=config.name,
        version=__version__,
        date=(date or datetime.date.today()).isoformat(),
        train=_listed(config.corpus.train),
        spoken=_spoken(synthesisers),
        started=_started(pretrained),
        dev=_listed(config.corpus.dev),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sample_rate=config.frontend.sample_rate,
        network=network,
        alphabet=_writes(config.tokens),
        decoder=decoder,
        wer=_rate(score.wer if score else None),
        cer=_rate(score.cer if score else None),
        folder=folder,
        licence=licence,
    )


def add_tuning(card: str, *, decoder: str, manifests: Sequence[str], score: Measurement) -> str:
    """Return a card with the lines of a tuned decoder, in place of those that it may have.

    Parameters
    ----------
    card
        Text of ``README.md``. The lines go to the end of its first table, or to its own end where there is none.
    decoder
        Signature of the tuned decoder.
    manifests, score
        What it was tuned on, and its score there.
    """
    rows = {
        "tuned decoder": decoder.replace("|", "\\|"),
        "tuned on": f"{_listed(manifests)}, {len(score.utterances)} utterances",
        "WER of the tuned decoder there": _rate(score.wer),
        "CER of the tuned decoder there": _rate(score.cer),
    }
    lines = [line for line in card.splitlines() if not line.startswith(tuple(f"| {name} |" for name in rows))]
    table = [f"| {name} | {value} |" for name, value in rows.items()]
    starts = [number for number, line in enumerate(lines) if line.startswith("|")]
    if not starts:
        return "\n".join([*lines, "", "| | |", "|---|---|", *table]) + "\n"
    end = next((number for number in range(starts[0], len(lines)) if not lines[number].startswith("|")), len(lines))
    return "\n".join([*lines[:end], *table, *lines[end:]]) + "\n"


def _spoken(synthesisers: Sequence[str]) -> str:
    """Return the row about synthetic speech, where there is any."""
    return f"| synthetic speech in it by | {_listed(synthesisers)} |\n" if synthesisers else ""


def _started(pretrained: str | None) -> str:
    """Return the row about the package that training started from, where there is one."""
    if pretrained is None:
        return ""
    name = pretrained.replace("|", "\\|")
    return f"| started from | {name}; its card says what it was trained on, and its terms hold as well |\n"


def _writes(tokens: TokensConfig) -> str:
    inventory = {
        "characters": "",
        "bpe": f", in {tokens.size} pieces of words",
        "phones": ", through phones: its decoder needs a lexicon to write words",
    }
    return f"`{tokens.alphabet}`{inventory[tokens.kind]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _rate(rate: Rate | None) -> str:
    return "not measured" if rate is None else rate.line("").strip()


def _recurrent_layers(config: RecurrentConfig) -> str:
    if config.cell == "none":
        return "no recurrent layers"
    if config.cell == "window_mlp":
        return f"{config.layers} feed-forward layers of {config.hidden_size} over windows of frames"
    direction = "bidirectional " if config.bidirectional else ""
    return f"{config.layers} {direction}{config.cell.upper().replace('_', ' ')} layers of {config.hidden_size}"
