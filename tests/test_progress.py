"""The display of progress."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

CODE = """
import time
from asr.progress import Progress
with Progress("a label of forty characters, all in all,", 100, "steps") as progress:
    time.sleep(1.1)
    progress.advance(50)
"""


@pytest.mark.parametrize(("columns", "cut"), [(60, True), (0, False), (200, False)])
def test_a_line_fits_the_terminal(columns: int, cut: bool) -> None:
    """The label gives way; of a terminal without a size nothing is known."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    subprocess.run([sys.executable, "-c", CODE], stderr=other, check=True)
    os.close(other)
    line = os.read(main, 1000).decode().removeprefix("\r\x1b[K").rstrip()
    os.close(main)
    assert line.startswith("a label of ")
    assert line.endswith(" left")
    assert ("all in all,: 50/100 steps (50 %)" in line) is not cut
    assert not cut or len(line) == columns - 1
