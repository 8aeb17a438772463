"""The card of a language model package: what the model is, how good, how to use it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from asr.language.model import LanguageModel
from asr.language.perplexity import Perplexity
from asr.version import __version__

_CARD = """\
# {name}

A language model: {description}, trained with asr {version} on {date}.

| | |
|---|---|
| trained on | {text} |
| size of the text | {sentences:,} sentences, {words:,} words |
| measured on | {dev} |
{measured}
| text is normalised to | {normaliser} |
| signature | {signature} |

## Use

```
asr lm score {folder} TEXT
asr lm predict "i grew up in france i speak fluent" --model {folder}
```

## Limits

It knows the words and the manner of the texts above: the further a text is from them, the worse it foretells it. It repeats
what stands in them, and knows nothing of what is true.

## Licence

The model follows the terms of the texts it was trained on; see those named above.
"""


def build_card(name: str, model: LanguageModel, facts: Mapping[str, Any], perplexity: Perplexity | None, folder: str) -> str:
    """Return the text of ``README.md``.

    Parameters
    ----------
    name
        The run's.
    model
        What was trained.
    facts
        ``text`` and ``dev`` (names), ``sentences`` and ``words`` (counts).
    perplexity
        On the dev texts; None says that it was not measured.
    folder
        What to call the package's folder in the examples.
    """
    form, measured = model.form, perplexity.facts() if perplexity else {"perplexity": "not measured"}
    return _CARD.format(
        name=name,
        description=model.description,
        version=__version__,
        date=datetime.date.today().isoformat(),
        text=", ".join(facts["text"]),
        sentences=facts["sentences"],
        words=facts["words"],
        measured="\n".join(f"| {key} | {value} |" for key, value in measured.items()),
        dev=", ".join(facts["dev"]) or "nothing",
        normaliser=f"{form.name}, the characters `{form.alphabet}`" if form else "nothing",
        signature=model.signature,
        folder=folder,
    )
