"""Plans whose training and validation read different rows of one file: no false alarm, and a real one where there is cause."""

from pathlib import Path

from omegaconf import OmegaConf

from datamodules.check.plan import make_plan
from datamodules.check.quick import quick_findings
from datamodules.check.run import check
from datamodules.formats import Reading
from tests.unit.datamodules.check.samples import clips, lines, plan_for


def planned(path: Path, shape: str, *, shares=None, **options):
    """As of data.train=PATH data.test={held_out: PATH}: validation reads the file, too."""
    stage = {"name": "thinker" if shape == "text" else "audio", "shape": shape}
    cfg = OmegaConf.create({"stage": stage, "data": {"kind": shape}, "trainer": {}, "module": {}})
    sources = {
        "train": str(path),
        "val": str(path),
        "test": {"held_out": str(path)},
        "reading": Reading(split_shares=shares or {}),
    }
    return make_plan(cfg, sources, dict(plan_for(shape).options) | options, given_val=False)


def quick(plan):
    return {(finding.check, finding.split) for finding in quick_findings(plan)}


def whole(plan):
    return {finding.check: finding for finding in check(plan, processes=1).findings}


STREAM = {"_target_": "datamodules.text_stream.TextStream", "held_out": 0.2}
VERSES = [f"line {n} of a play, which is long enough to be one of a kind" for n in range(50)]


def test_the_held_out_end_of_a_text(tmp_path):
    path = tmp_path / "input.txt"
    path.write_text("\n".join(VERSES) + "\n")
    plan = planned(path, "text", **STREAM)
    found = whole(plan)
    assert quick(plan) == set() and not {"leak", "held-out-is-train", "no-rows"} & set(found)
    assert ("held-out-is-train", "val") in quick(planned(path, "text"))  # a datamodule that holds nothing out
    path.write_text("\n".join([*VERSES, VERSES[3]]) + "\n")
    assert {check for check, _ in quick(planned(path, "text", **STREAM))} == {"leak"}


def test_held_out_speakers(tmp_path):
    rows = [row | {"speaker": ("ann", "bob", "eve")[n % 3]} for n, row in enumerate(clips(tmp_path, 6))]
    path = lines(tmp_path / "m.jsonl", rows)
    plan = planned(path, "speech", held_out=["eve"])
    found = whole(plan)
    assert quick(plan) == set() and not {"leak", "held-out-is-train", "shared-speakers"} & set(found)
    again = lines(tmp_path / "m.jsonl", [*rows, rows[0] | {"id": "again", "speaker": "eve"}])
    assert ("leak", "val") in quick(planned(again, "speech", held_out=["eve"]))


def test_shares_of_the_rows(tmp_path):
    path = lines(tmp_path / "m.jsonl", [{"id": f"n{n}", "text": text} for n, text in enumerate(VERSES)])
    plan = planned(path, "text", shares={"val": 0.2, "test": 0.2})
    found = whole(plan)
    assert quick(plan) == set() and not {"leak", "held-out-is-train", "no-rows", "splits-ignored"} & set(found)
