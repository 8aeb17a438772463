"""What a run goes on from: settings that may not change, checkpoints that are damaged or do not fit, packages that are lost."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from beeps import assert_equal_weights, small_config, weights, write_beeps

from asr.config import Config, options
from asr.engine.checkpoint import LAST, PREVIOUS, read_checkpoint, write_checkpoint
from asr.errors import ConfigError, DataError
from asr.package.load import read_package, with_decoding
from asr.package.save import update_package
from asr.training import train
from asr.training.resume import TERMS

MORE = "trainer.epochs=3"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beeps(tmp_path_factory.mktemp("beeps"))


@pytest.fixture(scope="module")
def complete(corpus: Path) -> Path:
    """A run of two epochs."""
    assert train(small_config(corpus, corpus / "run")) == 0
    return corpus / "run"


@pytest.fixture
def run(complete: Path, tmp_path: Path) -> Path:
    return shutil.copytree(complete, tmp_path / "run")


@pytest.fixture
def again(corpus: Path, run: Path) -> Callable[..., Config]:
    """The configuration that the run is gone on with."""
    return lambda *overrides: small_config(corpus, run, *overrides)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=2", r"another seed \(1, not 2\)"),
        ("trainer.batch_s=6", r"another trainer.batch_s \(12.0, not 6.0\)"),
        ("trainer.max_utterances=3", "another trainer.max_utterances"),
        ("trainer.buckets=3", "another trainer.buckets"),
        ("trainer.max_duration_s=1", "another trainer.max_duration_s"),
        ("trainer.devices=2", "another trainer.devices"),
        ("augment=robust", "another augment"),
        ("augment.time_masks=2", r"another augment.time_masks \(1, not 2\)"),
        ("optim.intermediate_ctc=0.3", "another optim"),
        ("model.recurrent.hidden_size=32", "another model"),
        ("frontend.n_mels=24", "another frontend"),
        ("tokens.alphabet=' abcd'", "another tokens.alphabet"),
        ("trainer.epochs=1", "has begun 2; ask for at least as many"),
        ("resume=false", "resume=false"),
    ],
)
def test_what_decides_the_steps_may_not_change(again: Callable[..., Config], run: Path, override: str, words: str) -> None:
    before = {path.name: path.read_bytes() for path in run.glob("*.*") if path.name != "train.log"}
    with pytest.raises(ConfigError, match=words):
        train(again(MORE, override))
    assert {path.name: path.read_bytes() for path in run.glob("*.*") if path.name != "train.log"} == before


def test_all_settings_are_decided() -> None:
    """Keys that nobody thought of are refused."""
    groups = (TERMS.free, TERMS.said, TERMS.by_content)
    assert options().keys() >= frozenset.union(*groups)
    assert sum(map(len, groups)) == len(frozenset.union(*groups))


@pytest.fixture
def other_corpus(corpus: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Overrides that name a copy of the manifests elsewhere, in one of which something is replaced."""

    def copy(name: str, old: str, new: str) -> list[str]:
        for part in ("train", "dev"):
            text = (corpus / f"{part}.jsonl").read_text()
            (tmp_path / f"{part}.jsonl").write_text(text.replace(old, new, 1) if part == name else text)
        return [f"corpus.{part}=[{tmp_path}/{part}.jsonl]" for part in ("train", "dev")]

    return copy


@pytest.mark.parametrize(("old", "new"), [('"text": "', '"text": "a '), ('"id": "train-000"', '"id": "other"')])
def test_a_corpus_whose_content_changed_is_refused(
    again: Callable[..., Config], other_corpus: Callable[..., list[str]], old: str, new: str
) -> None:
    with pytest.raises(ConfigError, match=r"other utterances than corpus\.train names now"):
        train(again(MORE, *other_corpus("train", old, new)))


def test_noise_whose_sound_changed_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()

    def record(seed: int) -> None:
        noise = np.random.default_rng(seed).normal(0, 0.1, 8000)
        soundfile.write(tmp_path / "noise" / "rain.wav", noise, 16000)

    def run(n_epochs: int) -> int:
        return train(small_config(corpus, tmp_path / "run", f"augment.noise=[{tmp_path}/noise]", f"trainer.epochs={n_epochs}"))

    record(1)
    assert run(1) == 0
    record(2)
    with pytest.raises(ConfigError, match=r"a run with other noise: what augment\.noise names has other sound now"):
        run(2)
    record(1)
    assert run(2) == 0


def test_what_may_change_is_said_and_done(
    again: Callable[..., Config], other_corpus: Callable[..., list[str]], run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same utterances elsewhere, more epochs, another precision; another dev, whose WER is not compared with the old."""
    checkpoint = read_checkpoint(run / LAST)
    checkpoint["callbacks"]["Checkpoints"] |= {"best_merit": (0.0, 0.0)}
    write_checkpoint(run, checkpoint)
    manifests = other_corpus("dev", '"text": "', '"text": "a ')
    with caplog.at_level(logging.INFO, "asr"):
        assert train(again(MORE, *manifests, "trainer.precision=bfloat16", "trainer.samples=0")) == 0
    assert "from here on the run has trainer.precision=bfloat16, not float32; trainer.epochs=3, not 2" in caplog.text
    assert "from here on the run is computed in bf16-mixed, not 32-true" in caplog.text
    assert "the best weights are chosen among those to come" in caplog.text
    assert "samples" not in caplog.text
    assert json.loads((run / "result.json").read_text())["best_epoch"] == 3
    assert read_package(run / "package").facts["epoch"] == 3


def test_other_batches_and_counts_that_contradict_are_refused(again: Callable[..., Config], run: Path) -> None:
    checkpoint = read_checkpoint(run / LAST)
    for change, words in (
        ({"run": {**checkpoint["run"], "epoch_batches": 5}}, "whose epochs have 5 batches"),
        ({"global_step": 13}, "13 steps are not those of epoch 2 with 0 of"),
        ({"SpeechData": {"batches_done": 99}}, "steps are not those of epoch 2 with 99 of"),
        ({"SpeechData": {}}, "cannot be read as a checkpoint"),
    ):
        write_checkpoint(run, {**checkpoint, **change})
        with pytest.raises(DataError, match=words):
            train(again(MORE))


def test_a_damaged_checkpoint_is_gone_on_from_the_one_before(
    again: Callable[..., Config], run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = weights(again())
    data = bytearray((run / LAST).read_bytes())
    data[len(data) // 2] ^= 1
    (run / LAST).write_bytes(data)
    assert read_checkpoint(run / PREVIOUS)["epoch"] == 0
    with caplog.at_level(logging.INFO, "asr"):
        assert train(again()) == 0
    assert "last.ckpt: cannot be read as a checkpoint (its content is not what" in caplog.text
    assert "going on from the checkpoint before it" in caplog.text
    assert_equal_weights(good, weights(again()))


HEAD = "model.acoustic.head.0.weight"


def absent(checkpoint: dict[str, Any]) -> None:
    del checkpoint["state_dict"][HEAD]


def foreign(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"]["model.more"] = torch.zeros(3)


def of_another_shape(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"][HEAD] = torch.zeros(3, 4)


def of_another_type(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"][HEAD] = checkpoint["state_dict"][HEAD].double()


def no_tensor(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"][HEAD] = "weight"


def moments(checkpoint: dict[str, Any]) -> None:
    state = checkpoint["optimizer_states"][0]["state"]
    state[0]["exp_avg"] = torch.zeros(2)


def no_optimiser(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"] = [torch.zeros(2)]


def no_moments(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"] = []


def fewer_parameters(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"][0]["param_groups"][0]["params"].pop()


def schedule(checkpoint: dict[str, Any]) -> None:
    checkpoint["lr_schedulers"][0]["last_epoch"] = 3


def schedule_s_type(checkpoint: dict[str, Any]) -> None:
    checkpoint["lr_schedulers"][0]["_step_count"] = {}


def best(checkpoint: dict[str, Any]) -> None:
    checkpoint["callbacks"]["Checkpoints"]["best_merit"] = ["good"]


def loops(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"] = 3


def no_loops(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"] = {}


def batches(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["completed"] = 10**9


def all_batches(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["started"] = 10**9


def no_counts(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"] = {}


def within_an_epoch(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


def fewer_batches(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"] -= 1


def all_epochs(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_progress"]["total"]["completed"] = -1


def batches_that_are_no_numbers(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] = []


def counts_of_another_type(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_progress"]["total"]["ready"] = torch.zeros(2)


def batches_of_another_type(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] = {}


def negative_squares(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"][0]["state"][0]["exp_avg_sq"].neg_()


def forgotten_best(checkpoint: dict[str, Any]) -> None:
    checkpoint["callbacks"].clear()


def emptied_moments(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"][0]["state"].clear()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (absent, f"tensor {HEAD} is absent"),
        (foreign, "tensor model.more is not part of the network"),
        (of_another_shape, rf"tensor {HEAD} is torch.float32 of shape \(3, 4\), expected torch.float32 of \(5, "),
        (of_another_type, f"tensor {HEAD} is torch.float64"),
        (no_tensor, f"{HEAD} is no tensor"),
        (moments, r"tensor exp_avg of model\..* is torch.float32 of shape \(2,\)"),
        (no_moments, "not enough values"),
        (no_optimiser, r"last\.ckpt: cannot be gone on from: too many indices for tensor"),
        (fewer_parameters, "the optimiser's params is"),
        (schedule, "its schedule is at step 3, its weights at step"),
        (schedule_s_type, "the schedule's _step_count is {}"),
        (best, "could not convert string to float"),
        (loops, r"last\.ckpt: cannot be read as a checkpoint \(TypeError"),
        (no_loops, r"last\.ckpt: cannot be read as a checkpoint \(KeyError"),
        (batches, "steps are not those of"),
        (all_batches, "steps are not those of"),
        (all_epochs, "steps are not those of"),
        (within_an_epoch, "steps are not those of"),
        (fewer_batches, "steps are not those of"),
        (no_counts, r"last\.ckpt: cannot be read as a checkpoint \(KeyError: 'ready'"),
        (batches_that_are_no_numbers, r"last\.ckpt: cannot be read as a checkpoint \(TypeError"),
        (counts_of_another_type, r"last\.ckpt: cannot be read as a checkpoint \(RuntimeError"),
        (batches_of_another_type, r"last\.ckpt: cannot be read as a checkpoint \(TypeError"),
        (negative_squares, "exp_avg_sq of .* has values below 0"),
        (forgotten_best, "it lacks 'Checkpoints'"),
        (emptied_moments, "the optimiser's moments are absent"),
    ],
)
def test_what_does_not_fit_is_named(
    again: Callable[..., Config], run: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    """The hash is right, but what was written is not."""
    checkpoint = read_checkpoint(run / LAST)
    change(checkpoint)
    write_checkpoint(run, checkpoint)
    with pytest.raises(DataError, match=words) as caught:
        train(again(MORE))
    assert str(run / LAST) in str(caught.value)


@pytest.mark.parametrize("where", ["asr.engine.restoring.load_optimiser", "asr.engine.run.Trainer.fit"])
def test_a_lack_of_memory_is_not_blamed_on_the_checkpoint(
    again: Callable[..., Config], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **settings: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    monkeypatch.setattr(where, full)
    with pytest.raises(torch.OutOfMemoryError):
        train(again(MORE))


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("asr.training.module.SpeechModule.on_fit_start", RuntimeError("CUDA error: all CUDA-capable devices are busy")),
        ("asr.training.module.SpeechModule.on_fit_start", RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")),
        ("asr.engine.saving.Checkpoints.on_train_start", ValueError("of ours")),
        ("asr.training.module.SpeechModule.load_state_dict", torch.AcceleratorError("CUDA error: unspecified launch failure")),
    ],
)
def test_what_fails_before_the_first_step_is_not_blamed_on_the_checkpoint(
    again: Callable[..., Config], where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(where, fail)
    with pytest.raises(type(error)) as caught:
        train(again(MORE))
    assert caught.value is error


def test_weights_that_are_no_numbers_are_not_blamed_on_the_learning_rate(
    again: Callable[..., Config], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(run / LAST)
    checkpoint["state_dict"][HEAD][0] = math.nan
    (run / PREVIOUS).unlink()
    with monkeypatch.context() as patch:
        patch.setattr("asr.engine.checkpoint._not_finite", lambda content: None)
        write_checkpoint(run, checkpoint)
    (run / PREVIOUS).unlink()
    with pytest.raises(DataError, match=f"state_dict.{HEAD} holds NaN"):
        train(again(MORE))


@pytest.mark.parametrize("lost", ["all", "weights", "a bit"])
@pytest.mark.parametrize("override", [MORE, "trainer.epochs=2"])
def test_a_lost_package_is_said_and_made_anew(
    again: Callable[..., Config], run: Path, lost: str, override: str, caplog: pytest.LogCaptureFixture
) -> None:
    (run / ".package.abcdefgh.asr-part").mkdir()  # a kill while it was written
    file = run / "package" / "model.safetensors"
    if lost == "all":
        shutil.rmtree(run / "package")
    elif lost == "weights":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
    with caplog.at_level(logging.INFO, "asr"):
        assert train(again(override)) == 0
    assert str(run / "package") in caplog.text
    assert ("the best of those to come takes their place" in caplog.text) == (override == MORE)
    assert ("made anew of the run's last weights" in caplog.text) == (override != MORE)
    assert not list(run.glob("*.asr-part"))
    package = read_package(run / "package")
    assert package.facts["epoch"] == (3 if override == MORE else 2)
    named = {name.removeprefix("model."): tensor for name, tensor in weights(again()).items() if name.startswith("model.")}
    assert_equal_weights(named, package.model.state_dict())


def test_a_package_of_what_was_trained_after_the_checkpoint_is_not_taken_for_the_best(
    again: Callable[..., Config], run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run was killed before the checkpoint of a better epoch, which is not better when it is trained in another way."""
    later = shutil.copytree(run, tmp_path / "later")
    shutil.rmtree(later / "package")  # so that the next epoch becomes one
    assert train(replace(again(MORE), output=str(later))) == 0
    shutil.rmtree(run / "package")
    shutil.copytree(later / "package", run / "package")
    content = read_checkpoint(run / LAST)
    content["callbacks"]["Checkpoints"] |= {"best_merit": (0.0, 0.0), "best_epoch": 1}
    write_checkpoint(run, content)
    assert train(again(MORE)) == 0
    assert "package: is of epoch 3, which was trained after the checkpoint was written" in caplog.text
    result, package = json.loads((run / "result.json").read_text()), read_package(run / "package")
    assert (result["best_epoch"], result["checkpoint"]) == (package.facts["epoch"], package.checkpoint_hash)
    assert result["dev_wer"] == package.facts["dev_wer"]["rate"]


def next_is_better(run: Path) -> None:
    """Let the next epoch of a run be the best so far."""
    content = read_checkpoint(run / LAST)
    content["callbacks"]["Checkpoints"]["best_merit"] = (math.inf, math.inf)
    write_checkpoint(run, content)


def test_a_tuned_package_is_kept_beside_the_better_one_that_takes_its_place(
    again: Callable[..., Config], run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    next_is_better(run)
    package = read_package(run / "package")
    update_package(
        package.folder,
        with_decoding(package, {"kind": "beam", "beam": 7}).config,
        "a card",
        files={"tuning/tuning.jsonl": b"{}\n"},
        facts={**package.facts, "tuning": {"trials": 1}},
    )
    assert train(again("trainer.epochs=4")) == 0
    kept, new = read_package(run / "package-epoch-2"), read_package(run / "package")
    assert (kept.checkpoint_hash, kept.config.decoding.beam) == (package.checkpoint_hash, 7)
    assert (run / "package-epoch-2" / "tuning" / "tuning.jsonl").read_bytes() == b"{}\n"
    assert new.facts["epoch"] > 2
    assert new.config.decoding.kind == "greedy"
    (said,) = [record for record in caplog.records if "was tuned" in record.message]
    assert said.levelno == logging.WARNING
    assert f"{run / 'package'}: its decoder was tuned" in said.message
    assert str(run / "package-epoch-2") in said.message


def test_a_package_that_was_not_tuned_is_just_replaced(again: Callable[..., Config], run: Path) -> None:
    next_is_better(run)
    assert train(again(MORE)) == 0
    assert read_package(run / "package").facts["epoch"] == 3
    assert [path.name for path in run.glob("package*")] == ["package"]
