"""Where a run's curves go, and that a run which is resumed goes on in the same logs; with the services' own packages."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from beeps import small_config, write_beeps

from asr.engine.loggers import IDS, METRICS, MetricsFile, build_loggers, check_loggers
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
