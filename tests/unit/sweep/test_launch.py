"""Workers as jobs of submitit, here by its executor that runs them in this process."""

import shutil

import pytest

from muomni.sweep.launch import _parameters, launch
from muomni.sweep.study import begin
from muomni.sweep.worker import work
from tests.unit.sweep.conftest import train

pytest.importorskip("submitit", reason="pip install 'muomni[cluster]'")


def test_workers_are_jobs_and_end_when_nothing_is_left(tmp_path, spec, capsys):
    begin(tmp_path, spec)
    work(tmp_path, start=train)
    assert launch(tmp_path, launcher="submitit_debug", workers=2, options={"timeout_min": "5"}) == 0
    assert "2 jobs: " in capsys.readouterr().err
    given = {"partition": "gpu", "gpus_per_node": "1", "timeout_min": "240"}
    assert _parameters(given) == {"slurm_partition": "gpu", "gpus_per_node": 1, "timeout_min": 240}


def test_mistakes_are_one_line(tmp_path, spec):
    begin(tmp_path, spec)
    with pytest.raises(ValueError, match=r"^launcher=submitit_local: .*nonsense.*"):
        launch(tmp_path, launcher="submitit_local", workers=1, options={"nonsense": "1"})
    if shutil.which("srun") is None:
        with pytest.raises(ValueError, match=r"^launcher=submitit_slurm: .*srun.*"):
            launch(tmp_path, launcher="submitit_slurm", workers=1, options={})
