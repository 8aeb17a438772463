"""What libraries write to standard error by themselves does not reach it; what others write does."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import spoken

from asr.audio import load_audio, probe_audio
from asr.chatter import held_back
from asr.errors import AudioError

MPG123 = b"[src/libmpg123/layer3.c:INT123_do_layer3():1804] error: dequantization failed!\n"
XING = b"Warning: Xing stream size off by more than 1%, fuzzy seeking may be even more fuzzy than by design!\n"
KENLM = (
    b"Loading the LM will be faster if you build a binary file.\nReading /a/b.arpa\n"
    b"----5---10---15---20---25---30---35---40---45"
    b"---50---55---60---65---70---75---80---85---90---95--100\n"
    b"The ARPA file is missing <unk>.  Substituting log10 probability -100.\n"
    b"****************************************************************************************************\n"
)


def test_chatter_is_held_back_and_the_rest_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    for chatter in (MPG123, XING, KENLM):
        with held_back():
            os.write(2, b"before\n" + chatter)
            os.write(2, b"after\rend\nand more")
        os.write(2, b"; ended\n")
        assert capfd.readouterr().err == "before\nafter\rend\nand more; ended\n"


def test_threads_side_by_side(capfd: pytest.CaptureFixture[str]) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            with held_back():
                os.write(2, MPG123)
                os.write(2, b"%d\n" % number)
                time.sleep(0.0005 * number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, MPG123)
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines[:-1]) == sorted(str(number) for number in range(4) for _ in range(20))
    assert lines[-1] == MPG123.decode().strip()  # outside, nothing is held back


def test_a_child_made_meanwhile_and_a_closed_standard_error(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom asr.chatter import held_back\n"
        "with held_back():\n"
        "    if os.fork() == 0:\n"
        "        os.write(2, b'child\\n'); os._exit(0)\n"
        "    os.wait()\n"
        "os.write(2, b'parent\\n')\nos.close(2)\nwith held_back():\n    pass\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "child\nparent\n")


@pytest.mark.parametrize("place", ["/dev/full", "a pipe that nobody reads"])
def test_what_cannot_be_passed_on_is_dropped(place: str) -> None:
    reading, broken = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY) if place == "/dev/full" else broken
    code = (
        "import os\nfrom asr.chatter import held_back\n"
        "for _ in range(2):\n    with held_back():\n        os.write(2, b'a\\nb\\n')\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    for descriptor in {full, broken}:
        os.close(descriptor)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_damaged_mp3_is_read_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, spoken(4.0), 16000)
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(2000, len(content), 30):
        content[place] ^= 16
    for damaged in (bytes(content), path.read_bytes()[:-4000], path.read_bytes() + bytes(range(1, 200)) * 20):
        path.write_bytes(damaged)
        with suppress(AudioError):
            load_audio(path, 16000)
        with suppress(AudioError):
            probe_audio(path)
        assert capfd.readouterr().err == ""


def test_a_damaged_wav_of_mp3_is_read_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, spoken(4.0), 16000, format="MP3")
    layer_iii = struct.pack("<4sIHHIIHHHHIHHH", b"fmt ", 30, 0x55, 1, 16000, 4000, 1, 0, 12, 1, 2, 144, 1, 0)
    chunks = layer_iii + struct.pack("<4sII4sI", b"fact", 4, 64000, b"data", len(sound.getvalue())) + sound.getvalue()
    content = bytearray(struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks)
    for place in np.random.default_rng(3).integers(2000, len(content), 30):
        content[place] ^= 16
    (tmp_path / "a.wav").write_bytes(content)
    assert len(load_audio(tmp_path / "a.wav", 16000)) == 64000
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("ending", "n_redirections"), [("wav", 0), ("flac", 0), ("ogg", 0), ("mp3", 2)])
def test_standard_error_is_redirected_where_a_library_may_write_to_it(
    ending: str, n_redirections: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once a file, there and back: both are a share of the time that reading a short one takes."""
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, spoken(0.5), 16000)
    redirect, targets = os.dup2, list[int]()

    def counted(source: int, target: int) -> int:
        targets.append(target)
        return redirect(source, target)

    monkeypatch.setattr(os, "dup2", counted)
    load_audio(path, 16000)
    assert targets == [2] * n_redirections
