"""``asr lm``: train, measure and try out language models."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from asr.commands.arguments import add_configuration, add_device, add_manifests, add_text_ids, print_config
from asr.commands.numbers import file_path
from asr.errors import ConfigError, DataError
from asr.output import say

if TYPE_CHECKING:
    from asr.language import LanguageModel
    from asr.language.perplexity import Perplexity


class _Parser(argparse.ArgumentParser):
    """Takes options between positional arguments, as the other commands do; argparse's own subcommands do not."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


_MODEL = "language model package, or a KenLM file"
_DEVICE = "where an LSTM runs: cpu (default), cuda, ..."

AddParser: TypeAlias = Callable[..., _Parser]
"""Adds the parser of an action."""


def _describe(config_dir: Path | None) -> str:
    from asr.language.config import describe_training

    return describe_training(config_dir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one subcommand for each thing to do."""
    add = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser).add_parser
    _add_train(add)
    _add_score(add)
    _add_predict(add)
    _add_sample(add)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    return {"train": _train, "score": _score, "predict": _predict, "sample": _sample}[args.action](args)


def _add(add: AddParser, name: str, text: str, *, add_help: bool = True) -> _Parser:
    return add(name, help=text, description=text, add_help=add_help)


def _add_train(add: AddParser) -> None:
    parser = _add(add, "train", "train a language model on texts and write its package", add_help=False)
    parser.epilog = "example: asr lm train lm=ngram text=[novels.txt.xz,librispeech/train-clean-5] output=runs/lm/novels"
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="lm=ngram, lm=lstm, or KEY=VALUE, in any order")
    parser.add_argument("--config-dir", type=file_path, metavar="DIR", help="folder with your own files lm/NAME.yaml")
    add_configuration(parser, _describe)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="MODEL", help=_MODEL)
    add_device(parser, _DEVICE)


def _add_score(add: AddParser) -> None:
    parser = _add(add, "score", "perplexity and out-of-vocabulary rate of texts")
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="text files (plain, .xz, .gz, .bz2) or manifests")
    parser.add_argument("--compare", metavar="MODEL2", help="a second model on the same texts, with the difference")
    add_text_ids(parser)
    add_manifests(parser)
    add_device(parser, _DEVICE)


def _add_predict(add: AddParser) -> None:
    parser = _add(add, "predict", "the likeliest next words after the beginning of a sentence")
    parser.add_argument("text", metavar="TEXT", help='such as "i grew up in france i speak fluent"; "" is a sentence\'s start')
    _add_model(parser)
    parser.add_argument("-n", type=int, default=10, metavar="N", help="how many (%(default)s)")


def _add_sample(add: AddParser) -> None:
    parser = _add(add, "sample", "write sentences drawn from a language model")
    _add_model(parser)
    parser.add_argument("text", nargs="?", default="", metavar="TEXT", help="how each begins")
    parser.add_argument("-n", type=int, default=5, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed writes the same (%(default)s)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="below 1 likelier words gain, above 1 others (%(default)g)"
    )


def _train(args: argparse.Namespace) -> int:
    from asr.language.config import compose_training

    config = compose_training(args.overrides, args.config_dir)
    if args.print_config:
        return print_config(config)
    from asr.language.training import train_language_model

    return train_language_model(config)


def _score(args: argparse.Namespace) -> int:
    from asr.language import load_language_model
    from asr.language.perplexity import as_lines, compare, measure, why_incomparable
    from asr.language.texts import find_sources, read_text
    from asr.progress import Progress

    texts = [text for source in find_sources(args.texts, args.folder, text_ids=args.text_ids) for text in read_text(source)]
    models = [load_language_model(path, args.device) for path in (args.model, args.compare) if path]
    readings = [[words for text in texts if (words := model.normalise(text))] for model in models]
    if not all(readings):
        raise DataError(f"no sentence is left of {', '.join(args.texts)} after normalisation")
    if readings[0] != readings[-1]:
        raise ConfigError("the models' normalisers make different words of this text, so they cannot be compared on it")
    results: list[Perplexity] = []
    for model, sentences in zip(models, readings, strict=True):
        with Progress("scoring", len(sentences), "sentences") as progress:
            result = measure(model, sentences, progress.advance)
        facts = {"model": model.description, **result.facts(), "signature": model.signature}
        print(("\n" if results else "") + as_lines(facts), flush=True)
        results.append(result)
    if len(models) == 2:
        comparison, reason = compare(*results), why_incomparable(*models)
        print(f"\n{comparison.summary()}\n{f'not a fair comparison: {reason}' if reason else comparison.verdict}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    if args.n < 1:
        raise ConfigError(f"-n {args.n}: expected 1 or more")
    model, history = _model_and_words(args)
    for word, probability in model.next_words(history, args.n):
        print(f"{probability:8.4f}  {word}")
    return 0


def _sample(args: argparse.Namespace) -> int:
    if args.n < 1 or args.seed < 0:
        raise ConfigError(f"-n {args.n} --seed {args.seed}: expected 1 or more, and 0 or more")
    if not 0 < args.temperature < math.inf:
        raise ConfigError(f"--temperature {args.temperature:g}: expected a number above 0, such as 0.7")
    model, history = _model_and_words(args)
    for text in model.sample(args.n, seed=args.seed, temperature=args.temperature, history=history):
        print(text)
    return 0


def _model_and_words(args: argparse.Namespace) -> tuple[LanguageModel, list[str]]:
    from asr.language import load_language_model

    model = load_language_model(args.model, args.device)
    words = model.normalise(args.text)
    if unknown := model.unknown_words(words):
        say("lm", f"the model does not know: {' '.join(unknown)}")
    return model, words
