"""LSTM language models: training, resuming, packages, commands."""

from __future__ import annotations

import errno
import importlib
import itertools
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from asr.cli import main
from asr.engine.checkpoint import LAST, PREVIOUS, read_checkpoint, write_checkpoint
from asr.errors import INTERRUPTED, ConfigError, DataError, PackageError, TrainingDiverged
from asr.files import locked
from asr.language import load_language_model
from asr.language.config import LstmTraining, compose_training
from asr.language.lstm import LstmModel
from asr.language.lstm_module import LstmModule
from asr.language.lstm_package import compress_lstm
from asr.language.lstm_training import train_lstm

# A language that is easily learned: after "the" a noun, after a noun its verb and the end.
VERBS = {"cat": "meows", "dog": "barks", "cow": "moos", "duck": "quacks"}


def write_text(folder: Path, n_sentences: int) -> Path:
    rng = random.Random(7)
    nouns = [rng.choice(list(VERBS)) for _ in range(n_sentences)]
    path = folder / "text.txt"
    path.write_text("".join(f"The {noun} {VERBS[noun]}.\n" for noun in nouns))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Two epochs are 60 steps."""
    return write_text(tmp_path, 600)


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """Enough to learn from."""
    return write_text(tmp_path, 1500)


def overrides_of(text: Path, *overrides: str) -> list[str]:
    return [
        "lm=lstm", f"text=[{text}]", f"output={text.parent / 'lm'}", "lm.embedding_size=16", "lm.hidden_size=16",
        "lm.layers=1", "lm.rows=8", "lm.steps=10", "lm.epochs=2", "lm.lr=0.02", "lm.precision=float32",
        "lm.accelerator=cpu", "lm.samples=4", "lm.dropout=0.1", "lm.held_out=0.02", *overrides,
    ]  # fmt: skip


def config_of(text: Path, *overrides: str) -> LstmTraining:
    config = compose_training(overrides_of(text, *overrides))
    assert isinstance(config, LstmTraining)
    return config


def test_training_learns_a_simple_language_and_writes_its_package(long_text: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asr")
    assert train_lstm(config_of(long_text, "lm.dropout=0", "lm.lr=0.01")) == 0
    folder = long_text.parent / "lm"
    names = ["README.md", "config.yaml", "model.safetensors", "train.log", "vocabulary.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert sorted(path.name for path in long_text.parent.iterdir()) == ["lm", "text.txt"]
    model = load_language_model(folder)
    assert isinstance(model, LstmModel)
    words = dict(model.next_words(["the"], 4))
    assert set(words) == set(VERBS)
    assert all(0.1 < p < 0.4 for p in words.values())
    assert model.next_words(["the", "cow"], 1)[0][0] == "moos"
    # Nothing but the noun is uncertain: 4 choices in 4 predictions give a perplexity of the fourth root of 4.
    facts = yaml.safe_load((folder / "config.yaml").read_text())["training"]
    assert 4**0.25 < facts["dev_perplexity"]["perplexity"] < 1.6
    assert "dev perplexity" in caplog.text
    assert re.search(r"done in \d+ s, peak memory \d\.\d\d GiB: perplexity \d", (folder / "train.log").read_text())


def test_sums_over_all_words_are_near_one_where_training_keeps_them_there(long_text: Path) -> None:
    assert train_lstm(config_of(long_text, "lm.dropout=0", "lm.samples=0", "lm.self_normalisation=1")) == 0
    model = load_language_model(long_text.parent / "lm")
    assert isinstance(model, LstmModel)
    assert model.self_normalised
    words = torch.tensor([[model.begin, model.index("the"), model.index("cow"), model.index("moos")]])
    hidden = model.network(words, None)[0].detach()
    logits = hidden[0] @ model.network.embedding.weight.T + model.network.bias
    assert float(logits.detach().logsumexp(1).abs().max()) < 1  # 10 without
    assert model.next_words(["the", "cow"], 1)[0][0] == "moos"


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *steps: int, number: int = signal.SIGINT) -> None:
    """Send this process the signal of Ctrl-C, or another, in the given steps."""
    original, counted = LstmModule.training_step, itertools.count(1)

    def step(self: LstmModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if next(counted) in steps:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LstmModule, "training_step", step)


def test_interrupted_run_goes_on_as_if_it_had_not_been(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_lstm(config_of(text)) == 0
    expected = weights_of(text.parent / "lm")
    before = (text.parent / "lm" / "config.yaml").read_text()
    for step in (17, 20):  # in the first epoch, and in what then is left of the second
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            assert train_lstm(config_of(text)) == INTERRUPTED
    assert (text.parent / "lm" / "config.yaml").read_text() == before
    assert (text.parent / "lm.training" / LAST).is_file()
    assert train_lstm(config_of(text)) == 0
    for name, tensor in weights_of(text.parent / "lm").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_checkpoint_holds_no_states_of_generators(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dropout and the loss draw follows from the place in the run: a state would be one device's alone."""
    interrupt_at(monkeypatch, 17)
    assert train_lstm(config_of(text)) == INTERRUPTED

    def types_in(part: Any) -> set[Any]:
        if isinstance(part, torch.Tensor):
            return {part.dtype}
        values = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
        return set().union(*map(types_in, values))

    assert types_in(read_checkpoint(text.parent / "lm.training" / LAST)) == {torch.float32}


def test_a_second_process_does_not_train_in_the_same_folder(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.files.PATIENCE_S", 0.2)
    log = text.parent / "lm.training" / "train.log"
    with locked(log), pytest.raises(ConfigError, match="another process is training there"):
        train_lstm(config_of(text))
    assert log.exists()


def test_a_folder_of_other_things_is_not_worked_in(text: Path) -> None:
    config = config_of(text)
    working = Path(f"{config.output}.training")
    working.mkdir()
    (working / "notes.txt").write_text("dear diary")
    with pytest.raises(ConfigError, match=r"lm\.training: holds notes\.txt, and no train\.log of a training"):
        train_lstm(config)
    assert (working / "notes.txt").read_text() == "dear diary"


def test_second_interrupt_stops_at_once(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = signal.getsignal(signal.SIGINT)

    def twice(self: LstmModule, batch: Any, batch_idx: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(LstmModule, "training_step", twice)
    with pytest.raises(KeyboardInterrupt):
        train_lstm(config_of(text))
    assert signal.getsignal(signal.SIGINT) is original
    assert not (text.parent / "lm.training" / LAST).exists()


def test_stopped_run_leaves_the_signals_as_they_were(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    interrupt_at(monkeypatch, 3, number=signal.SIGTERM)
    assert train_lstm(config_of(text)) == INTERRUPTED
    assert [signal.getsignal(number) for number in numbers] == before


def test_killed_run_goes_on_from_its_last_checkpoint(text: Path) -> None:
    """SIGKILL in a step of either epoch leaves no time to save; what is trained again comes to the same weights."""
    assert train_lstm(config_of(text, "lm.threads=1")) == 0
    expected = weights_of(text.parent / "lm")
    steps = (9, 40)

    def overrides(step: int) -> list[str]:
        return overrides_of(text, "lm.checkpoint_minutes=1e-9", "lm.threads=1", f"output={text.parent / str(step)}")

    code = (
        "import itertools, os, signal\n"
        "from asr.language.config import compose_training\n"
        "from asr.language.lstm_module import LstmModule\n"
        "from asr.language.lstm_training import train_lstm\n"
        "original = LstmModule.training_step\n"
        f"for last, overrides in {[(step, overrides(step)) for step in steps]!r}:\n"
        "    number = itertools.count(1)\n"
        "    def step(*args):\n"
        "        if next(number) == last: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return original(*args)\n"
        "    LstmModule.training_step = step\n"
        "    child = os.fork()\n"  # importing takes longer than training
        "    if not child:\n"
        "        train_lstm(compose_training(overrides))\n"
        "        os._exit(1)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == 0, killed.stderr
    for step in steps:
        assert (text.parent / f"{step}.training" / LAST).exists()
        assert main(["lm", "train", *overrides(step)]) == 0
        for name, tensor in weights_of(text.parent / str(step)).items():
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(("writer", "at"), [("torch.save", 25), ("safetensors.torch.save", 2)])
def test_full_disk_stops_the_run_and_spoils_nothing(text: Path, monkeypatch: pytest.MonkeyPatch, writer: str, at: int) -> None:
    """The disk is full for a checkpoint or the second package; the run goes on when there is room again."""
    assert train_lstm(config_of(text)) == 0
    expected = weights_of(text.parent / "lm")
    module, name = writer.rsplit(".", 1)
    original, number = getattr(importlib.import_module(module), name), itertools.count(1)

    def save(*args: Any, **settings: Any) -> Any:
        if next(number) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(writer, save)
        assert main(["lm", "train", *overrides_of(text, "lm.checkpoint_minutes=1e-9")]) == 1
    names = ["config.yaml", LAST, "package", PREVIOUS, "tensorboard", "train.log"]
    assert sorted(path.name for path in (text.parent / "lm.training").iterdir()) == names
    assert train_lstm(config_of(text)) == 0
    for key, tensor in weights_of(text.parent / "lm").items():
        assert torch.equal(tensor, expected[key]), key


def test_run_that_cannot_go_on_is_refused(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        train_lstm(config_of(text))
    with pytest.raises(ConfigError, match=r"another lm\.hidden_size \(16, not 8\)"):
        train_lstm(config_of(text, "lm.hidden_size=8"))
    with pytest.raises(ConfigError, match="resume=false"):
        train_lstm(config_of(text, "resume=false"))
    content = text.read_text()
    text.write_text(content.replace("quacks", "sings"))
    with pytest.raises(ConfigError, match="another text"):
        train_lstm(config_of(text))
    text.write_text(content)


def interrupted(text: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> Path:
    """The working folder of a run that was stopped."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        assert train_lstm(config_of(text)) == INTERRUPTED
    return text.parent / "lm.training"


def test_a_damaged_checkpoint_is_gone_on_from_the_one_before(
    text: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert train_lstm(config_of(text)) == 0
    expected = weights_of(text.parent / "lm")
    interrupted(text, monkeypatch, 20)
    checkpoint = interrupted(text, monkeypatch, 30) / LAST
    data = checkpoint.read_bytes()
    for changed in (data[:1000], bytes([*data[:3000], data[3000] ^ 1, *data[3001:]])):
        checkpoint.write_bytes(changed)
        with pytest.raises(DataError, match=r"last\.ckpt: cannot be read as a checkpoint"):
            read_checkpoint(checkpoint)
    assert train_lstm(config_of(text)) == 0
    assert "going on from the checkpoint before it" in caplog.text
    for name, tensor in weights_of(text.parent / "lm").items():
        assert torch.equal(tensor, expected[name]), name


def test_what_may_change_is_said_and_done(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Other sentences to measure on, whose perplexity is not compared with the old; more epochs; another precision."""
    dev = tmp_path / "dev.txt"
    dev.write_text("the cat meows\n" * 5)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 40)
        assert train_lstm(config_of(text, f"dev=[{dev}]")) == INTERRUPTED
    checkpoint = read_checkpoint(tmp_path / "lm.training" / LAST)
    checkpoint["callbacks"]["Checkpoints"]["best_merit"] = (1.0,)  # nothing will be better
    checkpoint["run"]["precision"] = "bf16-mixed"
    write_checkpoint(tmp_path / "lm.training", checkpoint)
    dev.write_text("the cow moos\n" * 5)
    with caplog.at_level(logging.INFO, "asr"):
        assert train_lstm(config_of(text, f"dev=[{dev}]", "lm.epochs=3", "lm.threads=1")) == 0
    assert "from here on the run has lm.epochs=3, not 2\n" in caplog.text
    assert "from here on the run is computed in 32-true, not bf16-mixed" in caplog.text
    assert "the best weights are chosen among those to come" in caplog.text
    facts = yaml.safe_load((tmp_path / "lm" / "config.yaml").read_text())["training"]
    assert facts["epoch"] > 1


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run that was stopped in the second epoch, with a package of the first."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text.txt").write_text("The cat meows.\nThe dog barks.\n" * 300)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 45)
        assert train_lstm(config_of(folder / "text.txt")) == INTERRUPTED
    return folder


def put(*place: str | int, value: object) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for name in place[:-1]:
            content = content[name]
        content[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("state_dict", value={}), "tensor network.bias is absent"),
        (put("state_dict", "network.bias", value=torch.zeros(3)), r"tensor network.bias is .* of shape \(3,\)"),
        (put("state_dict", "rows.mean", value=torch.zeros(1, 1)), r"tensor rows.mean is .* of shape \(1, 1\)"),
        (put("optimizer_states", 0, "state", 0, "exp_avg", value=torch.zeros(2)), "tensor exp_avg of "),
        (put("global_step", value=3), "3 steps are not those of epoch 2 with "),
        (put("TextData", value={}), "cannot be read as a checkpoint"),
        (put("memory", value=torch.zeros(1, 2, 3)), r"tensor memory is torch.float32 of shape \(1, 2, 3\)"),
        (put("memory", value=torch.zeros(1, 1, 2, 1, 8, 16, dtype=torch.float16)), "tensor memory is torch.float16"),
        (put("run", value={}), "cannot be read as a checkpoint"),
    ],
)
def test_what_does_not_fit_is_named(stopped: Path, tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    text = shutil.copytree(stopped, tmp_path / "copy") / "text.txt"
    working = text.parent / "lm.training"
    content = read_checkpoint(working / LAST)
    change(content)
    write_checkpoint(working, content)
    with pytest.raises(DataError, match=words) as caught:
        train_lstm(config_of(text))
    assert str(working / LAST) in str(caught.value)
    assert "choose another output=..." in str(caught.value)


def test_a_checkpoint_of_the_version_before_is_refused_with_what_to_do(stopped: Path, tmp_path: Path) -> None:
    text = shutil.copytree(stopped, tmp_path / "copy") / "text.txt"
    write_checkpoint(text.parent / "lm.training", {key: {} for key in ("run", "stepper", "position", "state")})
    with pytest.raises(DataError, match=r"it lacks callbacks, .*another version of asr has written it, go on with that one"):
        train_lstm(config_of(text))


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_lost_package_is_said_and_made_anew(
    stopped: Path, tmp_path: Path, epochs: int, caplog: pytest.LogCaptureFixture
) -> None:
    text = shutil.copytree(stopped, tmp_path / "copy") / "text.txt"
    package = text.parent / "lm.training" / "package"
    weights = package / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with caplog.at_level(logging.INFO, "asr"):
        assert train_lstm(config_of(text, f"lm.epochs={epochs}")) == 0
    assert "the best of those to come takes their place" in caplog.text
    assert ("from here on the run has lm.epochs=3, not 2" in caplog.text) == (epochs == 3)
    assert load_language_model(text.parent / "lm").next_words(["the", "dog"], 1)[0][0] == "barks"


def test_training_ends_where_dev_no_longer_improves(long_text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asr")
    dev = tmp_path / "dev.txt"
    dev.write_text("barks the meows\n" * 5)  # gets less likely the more is learned
    assert train_lstm(config_of(long_text, f"dev=[{dev}]", "lm.epochs=50", "lm.patience=3", "lm.validations=10")) == 0
    log = (tmp_path / "lm" / "train.log").read_text()
    assert "no better weights in 3 validations" in log
    assert "epoch 9/50" not in log


def test_diverging_training_stops_with_advice(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asr.language.lstm_module.sampled_cross_entropy", lambda hidden, *_: (hidden.sum() * math.nan, hidden[:, 0])
    )
    with pytest.raises(TrainingDiverged, match=r"loss is nan in epoch 1, batch 1\. .*lm\.lr"):
        train_lstm(config_of(text))
    assert not (text.parent / "lm").exists()


def test_training_without_measuring_keeps_the_last_weights(long_text: Path) -> None:
    assert train_lstm(config_of(long_text, "lm.held_out=0", "lm.samples=0")) == 0
    assert yaml.safe_load((long_text.parent / "lm" / "config.yaml").read_text())["training"]["dev_perplexity"] is None
    assert load_language_model(long_text.parent / "lm").next_words(["the", "dog"], 1)[0][0] == "barks"


def test_model_of_pieces(long_text: Path) -> None:
    assert (
        train_lstm(
            config_of(long_text, "lm.unit=subword", "lm.vocabulary_size=34", "lm.epochs=4", "lm.lr=0.01", "lm.samples=12")
        )
        == 0
    )
    model = load_language_model(long_text.parent / "lm")
    assert model.unit == "subword"
    assert any(word.startswith("▁") for word in model.words)
    words = model.next_words(["the"], 4)
    assert {word for word, _ in words} == set(VERBS)
    assert 0.8 < sum(p for _, p in words) <= 1.0001
    [score] = model.score([["the", "duck", "quacks"]])
    assert score.n_tokens > 4
    assert score.log_prob == pytest.approx(math.log(0.25), abs=0.8)
    assert any(text in {f"the {noun} {verb}" for noun, verb in VERBS.items()} for text in model.sample(5))


def test_too_little_text_and_missing_gpu_are_refused(text: Path) -> None:
    text.write_text("the cat\n")
    with pytest.raises(DataError, match=r"too few for lm\.rows=8"):
        train_lstm(config_of(text))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"lm\.accelerator=gpu"):
            train_lstm(config_of(text, "lm.accelerator=gpu"))
    (text.parent / "lm").mkdir()
    (text.parent / "lm" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not a language model package"):
        train_lstm(config_of(text))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lstm")
    (folder / "text.txt").write_text("The cat meows.\nThe dog barks.\n" * 100)
    assert train_lstm(config_of(folder / "text.txt", "lm.epochs=6")) == 0
    return folder / "lm"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hidden_size: 16", "hidden_size: 17", r"is F32 of shape \(64, 16\); by config.yaml .* \(68, 16\)"),
        ("hidden_size: 16", "hidden_size: 10000", "expected 1 to 8192"),
        ("hidden_size: 16", "hidden_size: many", "expected integers"),
        ("hidden_size: 16", "units: 16", "expected embedding_size"),
        ("hidden_size: 16", "hidden_size: 16\n  self_normalised: maybe", "self_normalised"),
        ("unit: word", "unit: subword", "tokenizer"),
    ],
)
def test_package_that_does_not_fit_is_refused(trained: Path, tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = copy_of(trained, tmp_path)
    content = (folder / "config.yaml").read_text()
    assert old in content
    (folder / "config.yaml").write_text(content.replace(old, new))
    with pytest.raises(PackageError, match=words):
        load_language_model(folder)


def test_weights_that_are_none_are_refused(trained: Path, tmp_path: Path) -> None:
    import hashlib

    folder = copy_of(trained, tmp_path)
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    weights = weights_of(folder)
    weights["bias"][0] = math.nan
    for content, words in ((safetensors.torch.save(weights), "NaN"), (b"PK\x03\x04", "not a safetensors file")):
        (folder / "model.safetensors").write_bytes(content)
        config = (trained / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace(before, hashlib.sha256(content).hexdigest()))
        with pytest.raises(PackageError, match=words):
            load_language_model(folder)
    with pytest.raises(ConfigError, match="device 'moon' cannot be used"):
        load_language_model(trained, "moon")


def copy_of(folder: Path, target: Path) -> Path:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize(("storage", "part"), [("float32", 1.0), ("float16", 0.5), ("int8", 0.25)])
def test_fewer_bits(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str, part: float) -> None:
    target = tmp_path / "small"
    assert main(["compress", str(trained), str(target), "--weights", storage]) == 0
    assert "asr lm score" in capsys.readouterr().out
    assert sorted(path.name for path in target.iterdir()) == sorted({path.name for path in trained.iterdir()} - {"train.log"})
    before, after = weights_of(trained), weights_of(target)
    assert after["embedding.weight"].nbytes == part * before["embedding.weight"].nbytes
    models = [load_language_model(folder) for folder in (trained, target)]
    whole, small = (model.score([["the", "cat", "meows"]])[0].log_prob for model in models)
    assert small == (whole if storage == "float32" else pytest.approx(whole, abs=0.05))
    assert (models[0].signature == models[1].signature) == (storage == "float32")
    assert f"| signature | {models[1].signature} |" in (target / "README.md").read_text()


def test_what_cannot_be_stored_in_fewer_bits(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="lies in the other"):
        compress_lstm(trained, trained / "copy", "int8")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not a language model package"):
        compress_lstm(trained, tmp_path, "int8")


def test_commands(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = tmp_path / "dev.txt"
    dev.write_text("The cat barks\n")
    assert main(["lm", "score", str(trained), str(dev), "--compare", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "LSTM (1 x 16, " in out
    assert "no clear difference" in out
    assert main(["lm", "predict", "the", "--model", str(trained), "-n", "2"]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()} == {"cat", "dog"}
    assert main(["lm", "sample", "--model", str(trained), "-n", "2", "--seed", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.slow
def test_two_processes_learn_what_one_with_all_rows_does(text: Path) -> None:
    """The embedding's rows, which the processes average themselves, and all other weights, to rounding."""
    exact = ("lm.samples=0", "lm.dropout=0", "lm.validations=1", "lm.threads=1", "lm.lr=0.005")
    assert train_lstm(config_of(text, *exact, "lm.rows=8")) == 0
    expected = weights_of(text.parent / "lm")
    shutil.rmtree(text.parent / "lm")
    command = ["lm", "train", *overrides_of(text, *exact, "lm.rows=4", "lm.devices=2")]
    result = subprocess.run([sys.executable, "-m", "asr", *command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    found = weights_of(text.parent / "lm")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_training_on_a_gpu(long_text: Path) -> None:
    assert train_lstm(config_of(long_text, "lm.accelerator=gpu", "lm.precision=bfloat16")) == 0
    assert load_language_model(long_text.parent / "lm", "cuda").next_words(["the", "cow"], 1)[0][0] == "moos"
