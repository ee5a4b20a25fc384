"""A sweep keeps the best job's export where the stage hands over, and says at the end which it was."""

import logging

import pytest
import yaml

from muomni.cli.known_warnings import silence_known_warnings
from muomni.run.sweeps import Report, is_better, keep_best, score, summary


def test_a_job_is_judged_by_what_was_measured():
    loss = {"thinker/val/loss": 2.0}
    assert score({"thinker/test/loss": 3.0}, "thinker/test/loss", loss) == ("thinker/test/loss", 3.0)
    assert score({"vision/mine/r1_a": 9.0, "vision/mine/x": 1.0}, "vision/test_iid/r1_a", {}) == (
        "vision/mine/r1_a",
        9.0,
    )
    assert score({}, "thinker/test/loss", loss) == ("thinker/val/loss", 2.0)
    assert score({}, "thinker/test/loss", {}) is None
    assert score({}, "thinker/test/loss", {"thinker/val/loss": float("nan")}) is None


def test_a_job_that_went_wrong_is_not_the_best(tmp_path):
    """The first has no finite number; the second lacks the metric, and its loss is no error rate."""
    jobs = [
        ("0", None),
        ("1", ("audio/val/loss", 2.0)),
        ("2", ("audio/test/cer", 30.0)),
        ("3", ("audio/val/loss", 1.0)),
    ]
    written = []
    for job, scored in jobs:
        keep_best(tmp_path, job, tmp_path / "a", scored, lambda job=job: written.append(job))
    assert written == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("thinker/test/loss", False), ("audio/test/cer", False), ("vision/test_iid/r1_image_to_text", True),
        ("omni_sft/test_iid/image_mean", True), ("vocoder/test/log_mel_distance", False), ("ocr/test/exact", True),
        ("codec/test/cer_resynthesis", False), ("vision/val/loss", False),
    ],
)  # fmt: skip
def test_which_way_a_metric_goes(name, more):
    assert is_better(name, 2.0, than=1.0) == more and is_better(name, 1.0, than=2.0) != more


def test_the_best_of_each_place_is_kept_and_said(tmp_path, capsys):
    jobs = [("0", "a", 3.0), ("1", "a", 2.0), ("2", "a", 5.0), ("3", "b", 9.0), ("10", "a", None)]
    written = []
    for job, place, loss in jobs:
        scored = None if loss is None else ("thinker/test/loss", loss)
        keep_best(tmp_path, job, tmp_path / place, scored, lambda job=job: written.append(job))
        (tmp_path / job / ".hydra").mkdir(parents=True)
        words = ["stage=thinker", f"optim.lr={job}e-3"]
        (tmp_path / job / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    assert written == ["0", "1", "3"]
    (line,) = summary(tmp_path)
    assert line.startswith("best of 4 is job 1 (optim.lr=1e-3): thinker/test/loss 2; ")
    assert (
        "job 0 (optim.lr=0e-3): thinker/test/loss 3; job 2" in line and "job 10 (optim.lr=10e-3): not measured" in line
    )

    class Config:
        class hydra:
            class sweep:
                dir = str(tmp_path)

    Report().on_multirun_end(Config)
    assert line in capsys.readouterr().err


def test_advertisements_are_not_shown(caplog):
    silence_known_warnings()
    told = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO):
        told.info("Tip: For seamless cloud logging, try installing litlogger")
        told.info("GPU available")
    assert "Tip" not in caplog.text and "GPU available" in caplog.text
