"""Standard output and error of the process, lines and JSON, whatever is in them and wherever they lead."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys

import pytest

from asr.output import log_handler, one_line, printable, tell, to_json

HOSTILE = "a\x1b]0;title\x07b\x9b31mc\rd\u202ee\tf\r\ng"
SHOWN = r"a\x1b]0;title\x07b\x9b31mc\x0dd\u202ee" + "\tf\r\ng"


def python(code: str, out: int, err: int = subprocess.PIPE, variables: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Run code with the process's streams opened as the command's are; returns the exit code and standard error."""
    code = f"import sys; from asr.output import open_streams; open_streams(); {code}"
    process = subprocess.run(
        [sys.executable, "-c", code], stdout=out, stderr=err, env={**os.environ, **(variables or {})}, check=False, timeout=60
    )
    return process.returncode, process.stderr or b""


def shell(arguments: str) -> tuple[int, bytes]:
    """Run asr through a shell, with its redirections; returns the exit code and what is not redirected."""
    process = subprocess.run(["sh", "-c", f"{sys.executable} -m asr {arguments}"], capture_output=True, check=False, timeout=60)
    return process.returncode, process.stdout + process.stderr


def on_terminal(code: str) -> bytes:
    """Return what comes to a terminal that code writes to."""
    reading, writing = pty.openpty()
    assert python(code, writing, writing)[0] == 0
    os.close(writing)
    return os.read(reading, 10_000)


def test_control_characters_are_shown() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable(SHOWN) == SHOWN
    assert one_line("a\nb\r\nc\u2028d") == r"a\x0ab\x0d\x0ac\u2028d"


def test_json_is_valid_and_gives_the_name_back() -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.wav")
    text = to_json({"file": name}, indent=1)
    assert text.encode() == b'{\n "file": "caf\\udce9 \xc3\xa9.wav"\n}'
    assert os.fsencode(json.loads(text)["file"]) == b"caf\xe9 \xc3\xa9.wav"


def test_a_terminal_obeys_nothing_but_progress() -> None:
    code = f"print({HOSTILE!r}); print({HOSTILE!r}, file=sys.stderr); sys.stderr.write('\\r\\x1b[Kdone: ' + {HOSTILE!r})"
    shown = SHOWN.replace("\n", "\r\n").encode()  # as a terminal ends lines
    assert on_terminal(code) == shown + b"\r\n" + shown + b"\r\n" + b"\r\x1b[Kdone: " + shown
    assert on_terminal("print(chr(0xdce9)); sys.stdout.write('\\n\\x1b[A\\r')") == b"\\udce9\r\n\r\n\x1b[A\r"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({"PYTHONIOENCODING": "ascii"}, rb"\xe4 \u20ac"), ({"LC_ALL": "C"}, "ä €".encode()), ({}, "ä €".encode())],
)
def test_any_encoding_writes_any_text(variables: dict[str, str], expected: bytes) -> None:
    reading, writing = os.pipe()
    assert python(r"print('\xe4 \u20ac'); print('\udcff\ud800')", writing, variables=variables) == (0, b"")
    os.close(writing)
    names = rb"\udcff\ud800" if "PYTHONIOENCODING" in variables else b"\xff\\ud800"
    assert os.read(reading, 1000) == expected + b"\n" + names + b"\n"


@pytest.mark.parametrize(
    "arguments",
    ["models >&-", "models >/dev/full", "train --print-config >/dev/full", "lm train --help >&-"],
)
def test_output_that_goes_nowhere_is_said(arguments: str) -> None:
    code, said = shell(arguments)
    assert code == 1
    assert said.count(b"\n") == 1
    assert b"error: standard output cannot be written: " in said


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("place", [">&-", ">/dev/full"])
def test_what_programs_read_and_goes_nowhere_is_said(place: str, size: int) -> None:
    code = f"open_streams(); sys.exit(_guard('asr', lambda: print_utf8({size} * 'a')))"
    code = f"import sys; from asr.cli import _guard; from asr.output import open_streams, print_utf8; {code}"
    process = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" {place}'], capture_output=True, check=False)
    said = process.stderr.decode().splitlines()
    assert (process.returncode, len(said)) == (1, 1)
    assert "error: standard output cannot be written: " in said[0]


def test_what_programs_read_is_utf8() -> None:
    reading, writing = os.pipe()
    code = r"from asr.output import print_utf8; print('first'); print_utf8('\xe4\udcff\n'); print('\xe4')"
    assert python(code, writing, variables={"PYTHONIOENCODING": "ascii"}) == (0, b"")
    os.close(writing)
    assert os.read(reading, 1000) == b"first\n\xc3\xa4\xff\n\\xe4\n"


@pytest.mark.parametrize("arguments", ["train --help", "lm train --help", "--help", "models", "models english"])
def test_a_reader_that_goes_away_is_no_fault(arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "asr", *arguments.split()], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, b"")


@pytest.mark.parametrize("place", ["2>&-", "2>/dev/full"])
def test_messages_that_nobody_reads_change_nothing(place: str) -> None:
    assert shell(f"models {place}")[0] == 0
    assert shell(f"models none {place}") == (2, b"")


def test_a_closed_stream_s_place_is_not_taken() -> None:
    """Or what is printed would be in the next file that is opened."""
    code = "import os; file = open('/dev/null'); assert file.fileno() > 2; os.fstat(0); os.fstat(1); os.fstat(2)"
    command = f'{sys.executable} -c "from asr.output import open_streams; open_streams(); {code}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


@pytest.mark.parametrize("shown_by", ["log_handler", "tell"])
def test_what_shows_work_and_nobody_reads_does_not_end_it(
    shown_by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(open(writing, "wb")) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        handler = log_handler()
        for text in ("a", "b"):
            if shown_by == "tell":
                tell(text)
            else:
                handler.handle(logging.makeLogRecord({"msg": text}))
    assert capsys.readouterr().err == ""
