"""Several training sets (`data.sets`): each is checked, and all of them together."""

from omegaconf import OmegaConf

from datamodules.check.command import checked_report
from datamodules.check.plan import make_plan
from datamodules.check.quick import quick_findings
from datamodules.check.terminal import render
from datamodules.data_sets import data_sets
from datamodules.formats import Reading
from tests.unit.datamodules.check.samples import OPTIONS, clips, lines

SPLITS = {"train": None, "val": None, "test": None}


def mixed(folder, *, a, b, val):
    """Words of a command with the sets a and b, of which a has a val."""
    paths = [lines(folder / f"{name}.jsonl", rows) for name, rows in (("a", a), ("b", b), ("val", val))]
    return [
        "data=speech",
        f"data.sets={{a: {{train: {paths[0]}, val: {paths[2]}}}, b: {paths[1]}}}",
        f"paths.root={folder}",
    ]


def found_in(words):
    report, _ = checked_report(words, sample=None)
    return report, {(finding.check, finding.split): finding for finding in report.findings}


def test_each_set_and_the_pool(tmp_path):
    rows = clips(tmp_path, 7, speaker="ann")
    a, b = rows[:4], [{**rows[4], "speaker": "bob"}, rows[5] | {"text": "naïve ж"}, rows[0] | {"id": "again"}]
    words = mixed(tmp_path, a=a, b=b, val=[rows[6] | {"id": "v"}, rows[5] | {"id": "leaks"}])
    report, found = found_in([*words, "data.mixture={a: 3, b: 1}"])
    assert found["duplicates", "train/b"].what == "1 of 3 rows are in the set a, too"
    assert found["leak", "val/a"].what.startswith("1 of 2 rows are training rows of b")
    assert ("unknown-characters", "train/b") in found and ("unknown-characters", "train/a") not in found
    assert found["shared-speakers", "val/a"].what.startswith("all its speakers are in training too (ann)")
    assert list(report.splits) == ["train", "train/a", "train/b", "val/a"]
    pool = report.splits["train"]
    assert (pool["sets"], pool["rows"], pool["speakers"]) == (["a", "b"], 7, 2)
    assert report.splits["train/b"]["weight"] == 0.25 and report.splits["train/b"]["drawn an epoch"] == round(
        0.25 * 7 / 3, 3
    )
    assert not any(setting.option == "data.mixture" for setting in report.settings)
    assert "data=speech for stage=audio: 9 rows" in render(report)


def test_sets_without_weights_are_checked_and_given_some(tmp_path):
    rows = clips(tmp_path, 5)
    report, _ = found_in(mixed(tmp_path, a=rows[:3], b=rows[3:4], val=rows[4:]))
    assert [setting.override for setting in report.settings] == ["'data.mixture={a: 0.75, b: 0.25}'"]
    assert not report.failed and "drawn an epoch" not in report.splits["train/a"]


def test_one_file_as_two_sets(tmp_path):
    rows = clips(tmp_path, 5)
    words = mixed(tmp_path, a=rows[:3], b=rows[:3], val=rows[4:])
    words[1] = words[1].replace("b.jsonl", "a.jsonl")
    report, found = found_in(words)
    assert found["duplicates", "train/b"].what == "it is the set a again"
    assert report.splits["train/b"]["same as"] == "train/a"


def test_a_small_set_with_a_large_weight_is_said(tmp_path):
    rows = clips(tmp_path, 12)
    _, found = found_in([*mixed(tmp_path, a=rows[:1], b=rows[1:11], val=rows[11:]), "data.mixture={a: 0.99, b: 0.01}"])
    assert found["drawn-often", "train/a"].what.startswith("11 times an epoch")


def test_the_part_that_training_runs(tmp_path):
    rows = clips(tmp_path, 6, split="train")
    a = lines(tmp_path / "a.jsonl", [*rows[:3], rows[3] | {"split": "dev"}])
    b = lines(tmp_path / "b.jsonl", [rows[0], rows[4]])
    given = {
        "kind": "speech",
        "train": None,
        "sets": {"a": str(a), "b": {"train": str(b), "val": str(a)}},
        "mixture": {"a": 1, "b": 1},
    }
    cfg = OmegaConf.create(
        {"stage": {"name": "audio", "shape": "speech"}, "data": {"kind": "speech"}, "trainer": {}, "module": {}}
    )
    sources = {
        "sets": data_sets(given, splits=SPLITS, reading=lambda _: Reading()),
        "train": None,
        "val": None,
        "test": {},
    }
    plan = make_plan(cfg, sources, OPTIONS["speech"], given_val=False)
    found = {(finding.check, finding.split): finding for finding in quick_findings(plan)}
    assert set(found) == {("splits-ignored", "train/a"), ("held-out-is-train", "val/b"), ("duplicates", "train/b")}
    assert found["splits-ignored", "train/a"].remedy == "data.sets.a.train_split=train data.sets.a.val_split=dev"
    assert found["held-out-is-train", "val/b"].remedy.startswith("data.sets.b.val=FILE")
