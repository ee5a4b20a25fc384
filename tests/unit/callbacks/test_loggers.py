"""Loggers in any combination, what they keep of a run, and one line where one cannot be."""

import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from callbacks.loggers import close_loggers, log_files, make_loggers
from callbacks.metrics_file import MetricsFile
from callbacks.source import Source
from callbacks.throughput import Throughput
from muomni.run.source_state import git_state, uncommitted
from tests.offline_wandb import read_runs

build = partial(instantiate, _convert_="all")


def options(name, folder):
    return {
        "csv": {"_target_": "callbacks.metrics_file.MetricsFile", "save_dir": folder},
        "tensorboard": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "save_dir": folder, "name": "tensorboard",
                        "version": ""},
        "wandb": {"_target_": "callbacks.wandb_logger.wandb_logger", "project": "p", "name": "toy", "save_dir": folder},
        "mlflow": {"_target_": "callbacks.mlflow_logger.mlflow_logger", "experiment_name": "p", "run_name": "toy",
                   "tracking_uri": None, "folder": f"{folder}/mlruns", "save_dir": folder},
        "trackio": {"_target_": "callbacks.trackio_logger.TrackioLogger", "project": "p", "folder": f"{folder}/trackio",
                    "save_dir": folder},
    }[name]  # fmt: skip


def loggers(names, folder):
    chosen = {name: options(name, str(folder)) for name in names}
    return make_loggers(chosen, {"optim": {"lr": 0.1}}, output=folder, build=build)


def test_the_file_of_metrics_is_there_named_or_not(tmp_path):
    (alone,) = make_loggers(None, {}, output=tmp_path, build=build)
    (named,) = loggers(["csv"], tmp_path)
    assert isinstance(alone, MetricsFile)
    assert isinstance(named, CSVLogger)
    both = loggers(["tensorboard"], tmp_path)
    assert [type(each) for each in both] == [TensorBoardLogger, MetricsFile]


def test_wandb_offline_is_read_back_and_a_resumed_run_continues_its_id(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.yaml").write_text("x")
    for steps in (3, 6):  # the second continues
        stage, data, trainer = toy(
            Throughput(), Source(), logger=loggers(["wandb"], tmp_path), max_steps=steps, max_epochs=-1
        )
        trainer.fit(stage, datamodule=data)
        log_files(trainer.loggers, tmp_path / "export", name="toy-export", category="model")
        close_loggers(failed=False)
    first, second = read_runs(tmp_path)
    assert first["id"] == second["id"] == (tmp_path / "wandb-run.txt").read_text().strip()
    assert first["config"]["optim"] == {"lr": 0.1}
    losses = [row["toy/train/loss"] for row in first["history"] if "toy/train/loss" in row]
    assert len(losses) == 3
    assert all("toy/train/samples_per_second" in row for row in first["history"] if "toy/train/loss" in row)
    assert [row["trainer/global_step"] for row in first["history"]] == sorted(
        row["trainer/global_step"] for row in first["history"]
    )
    assert "toy-export" in first["artifacts"]
    assert any(name.startswith("source-toy") for name in first["artifacts"])
    assert (first["exit"], second["exit"]) == (0, 0)


def test_mlflow_keeps_metrics_files_and_its_run(toy, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    for steps in (2, 4):
        stage, data, trainer = toy(logger=loggers(["mlflow", "csv"], tmp_path), max_steps=steps, max_epochs=-1)
        trainer.fit(stage, datamodule=data)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "model.yaml").write_text("x")
    log_files(trainer.loggers, tmp_path / "x", name="export", category="model")
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    assert run.info.run_id == (tmp_path / "mlflow-run.txt").read_text().strip()
    assert run.data.params["optim/lr"] == "0.1"
    assert len(client.get_metric_history(run.info.run_id, "toy/train/loss")) == 6
    assert [each.path for each in client.list_artifacts(run.info.run_id, "model")] == ["model/model.yaml"]


def test_trackio_is_read_back_and_a_resumed_run_continues(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when trackio is imported
    pytest.importorskip("trackio", reason="pip install 'muomni[trackio]' (docs/logging.md)")
    run = "-".join(tmp_path.parts[-2:])
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.yaml").write_text("x")
    for steps in (2, 4):  # the second continues
        stage, data, trainer = toy(logger=loggers(["trackio", "csv"], tmp_path), max_steps=steps, max_epochs=-1)
        trainer.fit(stage, datamodule=data)
        log_files(trainer.loggers, tmp_path / "export", name="toy-export", category="model")
        close_loggers(failed=False)
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs("p") == [run]
    assert SQLiteStorage.get_run_config("p", run)["optim"] == {"lr": 0.1}
    rows = [row for row in SQLiteStorage.get_logs("p", run) if "toy/train/loss" in row]
    assert [row["step"] for row in rows] == [0, 1, 0, 1, 2, 3]
    with (tmp_path / "metrics.csv").open() as file:
        written = [float(row["toy/train/loss"]) for row in csv.DictReader(file) if row["toy/train/loss"]]
    assert [row["toy/train/loss"] for row in rows][-len(written) :] == pytest.approx(written)
    assert [
        path.read_text() for path in (tmp_path / "trackio").rglob("*") if path.is_file() and path.stat().st_size == 1
    ]


@pytest.mark.parametrize("name", ["mlflow", "trackio", "tensorboard"])
def test_a_logger_that_is_not_installed_is_one_line(name, tmp_path):
    def missing(_):
        try:
            raise ModuleNotFoundError(f"No module named '{name}'")
        except ModuleNotFoundError as error:
            raise RuntimeError("Error in call to target") from error  # as Hydra does

    with pytest.raises(ValueError, match=rf"logger={name}: {name} is not installed .*pip install 'muomni\[{name}\]'"):
        make_loggers({name: {}}, {}, output=tmp_path, build=missing)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("csv", "wandb", "tensorboard"):
        with pytest.raises(ValueError, match=rf"logger={name}: .*file/run cannot be written .*logger.{name}.save_dir="):
            loggers([name], tmp_path / "file" / "run")


def test_what_a_run_was_made_from_is_kept(toy, tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *names, *words], cwd=checkout, check=True, capture_output=True)

    git("init", "-q")
    (checkout / "a.py").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "first")
    assert git_state(checkout)["dirty"] is False
    (checkout / "a.py").write_text("two\n")
    (checkout / "new.py").write_text("")
    state = git_state(checkout)
    assert (state["dirty"], state["untracked"], len(state["commit"])) == (True, ["new.py"], 40)
    assert "-one\n+two" in uncommitted(checkout)
    assert git_state(Path("/proc")) == {}, "no checkout"
    stage, data, trainer = toy(Source())
    trainer.fit(stage, datamodule=data)
    kept = json.loads((tmp_path / "source" / "state.json").read_text())
    assert kept["packages"]["torch"]
    assert kept["python"] == ".".join(map(str, sys.version_info[:3]))
