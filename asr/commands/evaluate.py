"""``asr evaluate``: error rates of a model on prepared manifests."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.config import Config

DESCRIPTION = "measure the error rates of a model on prepared manifests"

_OVERRIDE = "decoding."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="folder of a model package")
    parser.add_argument(
        "manifests",
        nargs="+",
        metavar="MANIFEST",
        help="names such as librispeech/dev-clean, or paths; and settings of the decoder, such as decoding.kind=greedy",
    )
    parser.add_argument(
        "--manifests", dest="folder", metavar="DIR", default="data/manifests", help="their folder (%(default)s)"
    )
    parser.add_argument("--batch-s", type=float, default=160.0, metavar="S", help="audio recognised at once (%(default)g s)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="also write DIR/<manifest>.jsonl and .json")


def run(args: argparse.Namespace) -> int:
    """Score each manifest by itself; 2 if an utterance had to be left out, 0 otherwise."""
    names = [item for item in args.manifests if not _is_override(item)]
    stems = _stems(names)
    if not args.batch_s > 0:
        raise ConfigError(f"--batch-s {args.batch_s:g}: expected seconds of audio, above 0")

    from asr.data.manifest import check_output_folder, read_manifest
    from asr.data.progress import Progress
    from asr.decoding import build_decoder
    from asr.package import read_package
    from asr.scoring.evaluation import evaluate

    if args.output:
        check_output_folder(args.output)
    corpora = {name: read_manifest(name, args.folder) for name in names}
    package = read_package(Path(args.model), args.device)
    config = _with_overrides(package.config, [item for item in args.manifests if _is_override(item)])
    decoder = build_decoder(config.decoding, package.tokenizer)
    n_left_out = 0
    for name, cuts in corpora.items():
        total_s = round(sum(cut.duration for cut in cuts))
        with Progress(name, total_s, "s of audio", sys.stderr if sys.stderr.isatty() else io.StringIO()) as progress:
            result = evaluate(
                cuts,
                package.model,
                decoder,
                corpus=name,
                checkpoint=package.checkpoint_hash,
                batch_s=args.batch_s,
                on_progress=lambda seconds, progress=progress: progress.advance(round(seconds)),  # type: ignore[misc]
            )
        for reason in result.left_out.values():
            print(f"asr evaluate: {reason}", file=sys.stderr)
        print(result.summary(), flush=True)
        if args.output:
            result.write(args.output, stems[name])
        n_left_out += len(result.left_out)
    return 2 if n_left_out else 0


def _is_override(item: str) -> bool:
    return item.startswith(_OVERRIDE) and "=" in item


def _stems(names: Sequence[str]) -> dict[str, str]:
    """Return the name of each manifest's result files, refusing two that are the same."""
    if not names:
        raise ConfigError("no manifest is named; expected at least one, such as librispeech/dev-clean")
    stems: dict[str, str] = {}
    for name in names:
        plain = name.removesuffix(".gz").removesuffix(".jsonl")
        stem = Path(plain).name if plain != name else plain.strip("/").replace("/", "-")
        if stem in stems.values():
            raise ConfigError(f"manifest {name}: another one's results are called {stem} as well; evaluate them one by one")
        stems[name] = stem
    return stems


def _with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return the package's configuration with settings of the decoder replaced."""
    import dataclasses

    import yaml

    from asr.config import from_mapping

    mapping = dataclasses.asdict(config)
    for override in overrides:
        key, _, value = override.removeprefix(_OVERRIDE).partition("=")
        node = mapping["decoding"]
        *sections, leaf = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigError(f"unknown key {_OVERRIDE}{key}: {section} is a single value and holds no {leaf}")
        try:
            node[leaf] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{override!r}: the value is not valid YAML; quote special characters") from None
    return from_mapping(mapping)
