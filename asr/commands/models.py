"""``asr models``: the models that ship with asr."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asr.errors import ConfigError
from asr.option import nearest
from asr.output import print_utf8, to_json
from asr.package.shipped import DEFAULT, HOW_TO_GET_ONE, VARIABLE, list_models

if TYPE_CHECKING:
    from asr.package.shipped import ShippedModel

_HEADER = ("name", "size", "trained on", "epochs", "WER on development set", "folder")
_UNKNOWN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = f"Where no model is named, ${VARIABLE} names it, and where that is not set, it is {DEFAULT!r}."
    parser.add_argument("name", nargs="?", metavar="NAME", help="print the card of this one")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of what is printed (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print the list or the card."""
    models = list_models()
    if args.name is not None:
        model = _named(args.name, models)
        card = model.read_card()
        if args.format == "json":
            print_utf8(_json({**_mapping(model), "card": card}))
        else:
            print(card.rstrip())
    elif args.format == "json":
        print_utf8(_json([_mapping(model) for model in models]))
    else:
        print("\n".join(_table(models)) if models else f"no model ships with this asr. {HOW_TO_GET_ONE}")
        if os.environ.get(VARIABLE):
            print(f"{VARIABLE}={os.environ[VARIABLE]} is used where no model is named")
    return 0


def _named(name: str, models: Sequence[ShippedModel]) -> ShippedModel:
    by_name = {model.name: model for model in models}
    if name not in by_name:
        known = f"There are: {', '.join(by_name)}" if by_name else f"There are none. {HOW_TO_GET_ONE}"
        raise ConfigError(f"{name}: no model of that name ships with asr.{nearest(name, by_name)} {known}")
    return by_name[name]


def _table(models: Sequence[ShippedModel]) -> list[str]:
    """Return a line a model, in columns below their names, and why one cannot be used."""
    rows = [_HEADER, *(_row(model) for model in models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, *(f"{model.name} cannot be used: {model.error}" for model in models if model.error is not None)]


def _row(model: ShippedModel) -> tuple[str, ...]:
    facts = model.facts
    name = f"{model.name} (default)" if model.name == DEFAULT else model.name
    size = f"{model.n_bytes / 1e6:.1f} MB"
    return name, size, _names(facts.get("train")), str(facts.get("epoch", _UNKNOWN)), _dev_wer(facts), str(model.folder)


def _dev_wer(facts: Mapping[str, Any]) -> str:
    """Return the word error rate of the decoder that the package has, tuned or not, and what it was measured on."""
    tuning = facts.get("tuning")
    wer, manifests = (tuning.get("wer"), tuning.get("manifests")) if isinstance(tuning, dict) else (None, None)
    if wer is None:
        wer, manifests = facts.get("dev_wer"), facts.get("dev")
    rate = wer.get("rate") if isinstance(wer, dict) else None
    return f"{100 * rate:.2f} %, {_names(manifests)}" if isinstance(rate, float) else _UNKNOWN


def _names(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else _UNKNOWN


def _mapping(model: ShippedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "default": model.name == DEFAULT,
        "folder": str(model.folder),
        "bytes": model.n_bytes,
        "title": model.title,
        "facts": dict(model.facts),
        "error": model.error,
    }


def _json(value: object) -> str:
    return to_json(value, indent=2, default=str) + "\n"
