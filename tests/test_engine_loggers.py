"""Where a run's curves go, and that a run which is resumed goes on in the same logs; with the services' own packages."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from beeps import assert_equal_weights, small_config, weights, write_beeps
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from asr.config import Config
from asr.engine.loggers import IDS, METRICS, MetricsFile, build_loggers, check_loggers, logging_curves
from asr.engine.saving import Checkpoints
from asr.errors import ConfigError, DataError
from asr.training import train

SHORT = ("trainer.batch_s=6", "trainer.log_every=1", "trainer.progress=none", "trainer.samples=0")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beeps(tmp_path_factory.mktemp("beeps"))


def values(path: Path, name: str) -> dict[int, float]:
    """Read a curve of a CSV file; a step that is there twice is a fault."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["step", "name", "value"]
    found = [(int(row["step"]), float(row["value"])) for row in rows if row["name"] == name]
    assert len(found) == len(dict(found))
    return dict(found)


def test_a_resumed_run_has_the_curves_of_an_unbroken_one(corpus: Path, tmp_path: Path) -> None:
    for name, epochs in (("whole", [2]), ("broken", [1, 2])):
        for n in epochs:
            path = tmp_path / name / METRICS
            if path.exists():  # what a run that was killed had written after its last checkpoint
                last = max(values(path, "train/loss"))
                with path.open("a") as stream:
                    stream.write(f"{last + 1},train/loss,9.0\n{last + 2},train/lo")
            settings = (
                "trainer.loggers=[csv]",
                f"trainer.epochs={n}",
                "trainer.gradient_flow=true",
                "optim.schedule=constant",
                "optim.warmup_fraction=0",
            )
            assert train(small_config(corpus, tmp_path / name, *SHORT, *settings)) == 0
    names = {row["name"] for row in csv.DictReader((tmp_path / "whole" / METRICS).read_text().splitlines())}
    assert {"train/loss", "train/lr", "train/gradient_norm", "dev/loss", "dev/wer", "dev/cer", "gradient_norm/head"} <= names
    for name in sorted(names - {"epoch"}):  # which comes with the values of training and of validation
        assert values(tmp_path / "broken" / METRICS, name) == values(tmp_path / "whole" / METRICS, name), name
    steps = list(values(tmp_path / "whole" / METRICS, "train/loss"))
    assert steps == list(range(len(steps)))
    assert not (tmp_path / "whole" / "tensorboard").exists()


@pytest.mark.parametrize("ends", ["stopped", "killed"])
def test_a_run_that_ends_in_the_middle_of_an_epoch_has_logged_each_step_of_its_checkpoint(
    ends: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*SHORT, "trainer.loggers=[csv,tensorboard]", "trainer.epochs=2", "trainer.checkpoint_minutes=0.0000001")
    assert train(small_config(corpus, tmp_path / "whole", *settings)) == 0
    broken = small_config(corpus, tmp_path / "broken", *settings)

    class Killed(BaseException):
        pass

    write = Checkpoints.save_last

    def save_last(self: Checkpoints, trainer: Trainer) -> None:
        if trainer.global_step == 2 and ends == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        write(self, trainer)
        if trainer.global_step == 2 and ends == "killed":
            raise Killed

    monkeypatch.setattr(Checkpoints, "save_last", save_last)
    if ends == "killed":
        with pytest.raises(Killed):
            train(broken)
    else:
        assert train(broken) == 130
    monkeypatch.undo()
    assert max(values(tmp_path / "broken" / METRICS, "train/loss")) == (1 if ends == "killed" else 2)
    assert train(broken) == 0
    assert_equal_weights(*(weights(small_config(corpus, tmp_path / name)) for name in ("whole", "broken")))
    assert len(values(tmp_path / "whole" / METRICS, "train/loss")) > 3
    for name in ("train/loss", "train/lr", "train/gradient_norm", "dev/loss"):
        assert values(tmp_path / "broken" / METRICS, name) == values(tmp_path / "whole" / METRICS, name)


def test_values_are_logged_every_so_many_steps(corpus: Path, tmp_path: Path) -> None:
    settings = ("trainer.loggers=[csv]", "trainer.epochs=2", "trainer.log_every=3")
    assert train(small_config(corpus, tmp_path, *SHORT, *settings)) == 0
    steps = list(values(tmp_path / METRICS, "train/loss"))
    assert steps[:2] == [2, 5]
    assert all(step % 3 == 2 for step in steps)


class Service:
    """A service's log, as Lightning would open it."""

    def __init__(self, name: str, opens: Callable[[], object] = lambda: None) -> None:
        self.name, self.opens, self.hyperparams = name, opens, list[object]()

    @property
    def experiment(self) -> SimpleNamespace:
        self.opens()
        return SimpleNamespace(id=self.name)

    @property
    def run_id(self) -> str:
        return self.name

    def log_hyperparams(self, values: object) -> None:
        self.hyperparams.append(values)


class WandbLogger(Service):
    pass


class MLFlowLogger(Service):
    pass


def logged(folder: Path, *services: Any, resumed: bool) -> dict[str, str] | None:
    """Start a run, and return the ids that are kept then."""
    with logging_curves(services, folder, Config(), resumed=resumed):
        return json.loads((folder / IDS).read_text()) if (folder / IDS).exists() else None


def test_a_service_that_a_start_does_without_keeps_its_id(tmp_path: Path) -> None:
    assert logged(tmp_path, WandbLogger("w1"), resumed=False) == {"wandb": "w1"}
    assert logged(tmp_path, resumed=True) == {"wandb": "w1"}
    assert logged(tmp_path, MLFlowLogger("m1"), resumed=True) == {"wandb": "w1", "mlflow": "m1"}
    again, other = WandbLogger("w1"), WandbLogger("w2")
    assert logged(tmp_path, again, resumed=True) == {"wandb": "w1", "mlflow": "m1"}
    assert not again.hyperparams
    assert logged(tmp_path, other, resumed=True) == {"wandb": "w2", "mlflow": "m1"}
    assert len(other.hyperparams) == 1


def test_a_new_run_does_not_go_on_in_the_logs_of_one_before_it_in_its_folder(tmp_path: Path) -> None:
    assert logged(tmp_path, WandbLogger("w1"), MLFlowLogger("m1"), resumed=False) == {"wandb": "w1", "mlflow": "m1"}
    assert logged(tmp_path, MLFlowLogger("m2"), resumed=False) == {"mlflow": "m2"}
    assert logged(tmp_path, resumed=False) is None


def test_a_log_that_was_open_before_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb, codes = SimpleNamespace(run=object()), list[int]()

    def finish(exit_code: int) -> None:
        codes.append(exit_code)
        wandb.run = None

    wandb.finish = finish
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    logged(tmp_path, resumed=False)
    logged(tmp_path, WandbLogger("w1"), resumed=False)  # Lightning logs into the open one
    assert not codes
    wandb.run = None
    logged(tmp_path, WandbLogger("w1", lambda: setattr(wandb, "run", object())), resumed=False)
    assert codes == [0]
    with (
        pytest.raises(ValueError, match="training"),
        logging_curves(
            [cast("Logger", WandbLogger("w1", lambda: setattr(wandb, "run", object())))], tmp_path, Config(), resumed=False
        ),
    ):
        raise ValueError("training")
    assert codes == [0, 1]


def test_none(corpus: Path, tmp_path: Path) -> None:
    assert train(small_config(corpus, tmp_path / "run", *SHORT, "trainer.loggers=[]", "trainer.epochs=1")) == 0
    assert not {"tensorboard", METRICS, IDS} & {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_what_is_not_installed_is_named_before_anything_is_done(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()  # W&B makes such a folder, which Python takes for a package
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    assert importlib.util.find_spec(name) is not None
    with pytest.raises(ConfigError, match=rf'{name} needs the package {name}, .* `pip install "\.\[{name}\]"`'):
        train(small_config(corpus, tmp_path / "run", f"trainer.loggers=[csv,{name}]"))
    assert not (tmp_path / "run").exists()
    check_loggers(["csv", "tensorboard"])


def test_the_services_are_imported_where_they_are_asked_for() -> None:
    code = "import sys, asr.training.run; print([name for name in ('wandb', 'mlflow') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["", "[1]", '{"wandb": 1}', "{"])
def test_ids_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / IDS).write_text(text)
    assert len(build_loggers(tmp_path, "a", ["csv"], None)) == 1
    with pytest.raises(DataError, match=r"loggers\.json: cannot be read"):
        build_loggers(tmp_path, "a", ["csv"], {"global_step": 5})


def test_a_cut_off_file_and_one_of_another_kind(tmp_path: Path) -> None:
    for text in ("step,name,value\n0,a,1.0\n1,a", "epoch,loss\n0,5\nx,a,2\n0,a,1.0\n", 'step,name,value\n"0,a\n0,a,1.0\n'):
        path = tmp_path / METRICS
        path.write_text(text)
        MetricsFile(path, 1).log_metrics({"a": 2.0}, 1)
        assert path.read_text() == "step,name,value\n0,a,1.0\n1,a,2.0\n"
    MetricsFile(path, 0).log_metrics({"a, b": 0.1}, 0)
    assert path.read_text() == 'step,name,value\n0,"a, b",0.1\n'


def resumed(corpus: Path, folder: Path, name: str) -> None:
    """Train two epochs, the second in a process of its own, as it were."""
    for n in (1, 2):
        assert train(small_config(corpus, folder, *SHORT, f"trainer.loggers=[csv,{name}]", f"trainer.epochs={n}")) == 0


def test_mlflow(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    mlflow: Any = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    resumed(corpus, tmp_path / "run", "mlflow")
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path}/run/mlflow/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "asr"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert json.loads((tmp_path / "run" / IDS).read_text()) == {"mlflow": run.info.run_id}
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer/epochs"] == "1"
    history = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "train/loss")}
    assert history == values(tmp_path / "run" / METRICS, "train/loss")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_wandb_goes_on_with_one_id_and_offline(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb: Any = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.chdir(tmp_path)
    resumed(corpus, tmp_path / "run", "wandb")
    assert wandb.run is None
    (name,) = json.loads((tmp_path / "run" / IDS).read_text()).values()
    runs = [path.name for path in (tmp_path / "run" / "wandb").glob("*-run-*")]
    assert len(runs) == 2
    assert all(run.startswith("offline-run-") and run.endswith(name) for run in runs)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_service_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(ConfigError, match=r"trainer\.loggers: mlflow cannot begin"):
        build_loggers(tmp_path, "a", ["mlflow"], None)
