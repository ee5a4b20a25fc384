"""Workers as jobs of submitit: by its executor that runs them in this process, and by the one that starts processes."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from muomni.sweep import launch as launching
from muomni.sweep.launch import _parameters, launch, submit, wait
from muomni.sweep.study import begin, load
from tests.unit.sweep.conftest import option, train

pytest.importorskip("submitit", reason="pip install 'muomni[cluster]'")


def trials(folder, spec):
    return load(folder, spec).get_trials(deepcopy=False)


def test_workers_are_jobs_and_end_when_nothing_is_left(tmp_path, spec, capsys):
    begin(tmp_path, spec)
    jobs = submit(tmp_path, cluster="debug", workers=2, options={"timeout_min": "5"}, start=train)
    assert wait(jobs, cluster="debug") == 0
    assert "2 jobs: " in capsys.readouterr().err
    assert [trial.number for trial in trials(tmp_path, spec)] == list(range(spec.trials))
    assert all(trial.state.is_finished() for trial in trials(tmp_path, spec))
    given = {"partition": "gpu", "gpus_per_node": "1", "timeout_min": "240"}
    assert _parameters(given) == {"slurm_partition": "gpu", "gpus_per_node": 1, "timeout_min": 240}


class Sleeping:
    """A training that goes on until its worker ends it."""

    ended = False

    def wait(self):
        while not self.ended:
            time.sleep(0.1)
        return 0

    def terminate(self):
        self.ended = True


def first_sleeps(words, environment, log, inherited):
    """The first training of a sweep lasts longer than its job may; all others are those of the fake."""
    begun = Path(option(words, "+callbacks.trial_report.sweep")) / "begun"
    if begun.exists():
        return train(words, environment, log, inherited)
    begun.write_text(f"{os.getpid()}\n")
    return Sleeping()


@pytest.mark.slow  # two starts of a process
def test_a_job_at_its_time_limit_is_queued_again_and_continues_its_trial(tmp_path, spec):
    """By submitit's local executor, which handles the signal of SLURM's time limit as jobs of SLURM do."""
    begin(tmp_path, spec)
    (job,) = jobs = submit(tmp_path, cluster="local", workers=1, options={}, start=first_sleeps)
    end = time.monotonic() + 200
    while not (tmp_path / "begun").exists() or not (tmp_path / "begun").read_text().endswith("\n"):
        assert time.monotonic() < end and not job.done(), job.stderr()
        time.sleep(0.1)
    os.kill(int((tmp_path / "begun").read_text()), signal.SIGUSR2)
    assert wait(jobs, cluster="local") == 0
    assert [trial.number for trial in trials(tmp_path, spec)] == list(range(spec.trials))
    assert all(trial.state.is_finished() for trial in trials(tmp_path, spec))
    assert "trial 0 begins: " in job.stderr() and "trial 0 is continued: " in job.stderr()


def test_the_limits_of_submitit_are_not_those_of_a_training(tmp_path, spec, monkeypatch):
    """Its own: five minutes, and queued again three times."""
    import submitit

    given = {}

    class Executor:
        def __init__(self, **how):
            given.update(how)

        def update_parameters(self, **how):
            given.update(how)

        def submit(self, worker):
            raise submitit.core.utils.FailedJobError("sbatch: error: invalid partition\nspecified: gpu")

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    begin(tmp_path, spec)
    with pytest.raises(ValueError, match=r"^launcher=submitit_slurm: sbatch: error: invalid partition specified: gpu$"):
        submit(tmp_path, cluster="slurm", workers=1, options={"partition": "gpu"})
    assert (given["timeout_min"], given["slurm_max_num_timeout"]) == (launching.MINUTES, launching.REQUEUED)
    assert given["slurm_partition"] == "gpu" and given["name"] == tmp_path.name


def test_jobs_of_slurm_go_on_after_ctrl_c_and_others_end(capsys):
    class Job:
        job_id, cancelled = "7", False

        def exception(self):
            raise KeyboardInterrupt

        def cancel(self, check):
            self.cancelled = True

    for cluster in ("slurm", "local"):
        job = Job()
        with pytest.raises(KeyboardInterrupt):
            wait([job], cluster=cluster)
        assert job.cancelled == (cluster == "local")
        assert ("scancel 7" in capsys.readouterr().err) == (cluster == "slurm")


def test_mistakes_are_one_line(tmp_path, spec):
    begin(tmp_path, spec)
    with pytest.raises(ValueError, match=r"^launcher=submitit_local: .*nonsense.*"):
        launch(tmp_path, launcher="submitit_local", workers=1, options={"nonsense": "1"})
    if shutil.which("srun") is None:
        with pytest.raises(ValueError, match=r"^launcher=submitit_slurm: .*srun.*"):
            launch(tmp_path, launcher="submitit_slurm", workers=1, options={})
