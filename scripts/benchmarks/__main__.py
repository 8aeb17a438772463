"""``scripts/bench NAME ...``: finds the benchmark and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys

from asr.errors import AsrError

BENCHMARKS = {
    "start": "seconds that `asr --help` takes",
    "train": "a recipe's loader, by worker processes, its model, and both: seconds of audio a second",
    "read": "milliseconds that reading a short recording takes, of each format",
    "normalise": "microseconds that normalising a character takes, by the length of its line",
    "score": "seconds that scoring a hundred thousand utterances and comparing two systems takes",
    "intervals": "how often confidence intervals hold the truth, by simulation",
    "loss": "ctc and ctc_crf of each order beside a training step",
    "recurrent": "one layer of every cell against torch.nn.LSTM, a plain loop and a PackedSequence",
    "language": "training steps of an LSTM language model and single steps of a decoder: words a second",
    "transcribe": "WER, speed, start-up and memory of transcription, ours, PocketSphinx's and Whisper's",
    "conditions": "WER of the same utterances in noise, over the telephone, quiet and clipped",
    "long": "a recording of hours: memory, speed, and WER against that of its utterances one by one",
    "decode": "WER and processor time of our decoders, torchaudio's and pyctcdecode's, on the same log-probabilities",
}
"""Benchmarks with their summaries; each is a module with DESCRIPTION, add_arguments(parser) and run(args)."""


def main() -> int:
    """Run the benchmark that the command line names; 2 where something given cannot be used."""
    lines = [f"  {name:11} {summary}" for name, summary in BENCHMARKS.items()]
    overview = argparse.ArgumentParser(
        prog="scripts/bench",
        usage=".venv/bin/python scripts/bench NAME ...",
        description="Measure speed, memory and accuracy on this machine.\n\nbenchmarks:\n" + "\n".join(lines),
        epilog="`scripts/bench NAME --help` says what a benchmark can be told.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    overview.add_argument("name", choices=BENCHMARKS, metavar="NAME", help="one of the above")
    name = overview.parse_args(sys.argv[1:2]).name
    module = importlib.import_module(f"benchmarks.{name}")
    parser = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=module.DESCRIPTION)
    module.add_arguments(parser)
    try:
        module.run(parser.parse_args(sys.argv[2:]))
    except AsrError as error:
        print(f"scripts/bench {name}: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
