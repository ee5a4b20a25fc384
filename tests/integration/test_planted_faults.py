"""Faults planted in real stages on the ci world: caught by name, and nothing changed by the step. All of them:
`python -m benchmarks.faults.fault_injection`."""

import pytest

from benchmarks.faults.fault_injection import FAULTS, run_stage
from benchmarks.stages import ONE_OPTIMIZER

CI = ("budget=ci", "data.preset=ci")
FEW = {
    "thinker": ["nan_in_weight", "nan_in_loss", "exploding_gradient"],
    "codec": ["nan_in_input", "inf_in_gradient", "huge_loss"],
}


@pytest.mark.parametrize("stage", FEW)
def test_some_faults_in_some_stages(line, stage):
    outcomes = list(run_stage(stage, f"paths.root={line}", *CI, faults=FEW[stage]))
    assert len(outcomes) == 3
    assert [outcome for outcome in outcomes if not outcome.caught] == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", ONE_OPTIMIZER)
def test_every_fault_in_every_stage(line, stage):
    outcomes = list(run_stage(stage, f"paths.root={line}", *CI, faults=list(FAULTS)))
    assert [outcome for outcome in outcomes if not outcome.caught] == []
