import json

import pytest

from benchmarks import all as every
from benchmarks.results import write_results


def test_the_committed_results_are_read():
    for name in every.SOURCES:
        if (every.COMMITTED / f"{name}.json").is_file():
            rows = every.read(name, every.COMMITTED)
            assert rows
            assert all(row["ours"] > 0 and row["day"] != "-" for row in rows)


def test_a_ratio_reaches_its_aim_or_not():
    assert every.row("a", 1.0, "ms", ratio=1.5, aim=1.5)["met"] == "yes"
    assert every.row("a", 1.0, "ms", ratio=1.4, aim=1.5)["met"] == "no"
    assert every.row("a", 1.0, "ms", ratio=1.6, aim=1.5, met=False)["met"] == "no"
    assert every.row("a", 1.0, "ms", ratio=1.4)["met"] == "-"


def test_the_strongest_peer_of_training_is_compared():
    models = (
        {"tokens_per_cpu_second": 90.0},
        {"tokens_per_cpu_second": 100.0},
        {"tokens_per_cpu_second": 120.0, "mfu": 0.5},
    )
    result = {"precision": "fp32", "ratio": 1.2, "models": dict(zip(("slow", "fast", "muomni"), models, strict=True))}
    (row,) = every.training_rows(result)
    assert (row["peer"], row["peer's"], row["x floor"], row["met"]) == ("fast", 100.0, 2.0, "yes")


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "kernels.json").write_text("{}")
    with pytest.raises(ValueError, match=r"kernels\.json: no result of benchmarks\.speed\.kernels"):
        every.read("kernels", tmp_path)


def test_results_carry_their_day_and_machine(tmp_path):
    write_results(tmp_path / "new" / "a.json", {"rows": []})
    written = json.loads((tmp_path / "new" / "a.json").read_text())
    assert len(written["date"]) == 10
    assert written["machine"]["torch"]


def test_an_unknown_source_is_named():
    with pytest.raises(ValueError, match="only=speed"):
        every.main(["only=speed"])


def test_what_is_not_measured_is_said_with_its_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(every, "COMMITTED", tmp_path)
    with pytest.raises(ValueError, match="run=true measures"):
        every.main([])
    sound = {"rows": [{"look_ahead": "0", "first_of_a_text_ms": 200.0}], "machine": {"processor": "P", "torch": "2"}}
    (tmp_path / "first_sound.json").write_text(json.dumps(sound | {"date": "2026-01-02"}))
    every.main(["only=first_sound,kernels"])
    said = capsys.readouterr().out
    assert "first sound, look_ahead 0" in said
    assert "no   2026-01-02" in said
    assert "kernels: not measured; python -m benchmarks.speed.kernels out=" in said


def test_run_measures_into_another_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(every, "measure", lambda names, folder: asked.append((names, folder)))
    with pytest.raises(ValueError, match="no results of kernels"):
        every.main(["run=true", "only=kernels", f"root={tmp_path}"])
    assert asked == [(("kernels",), tmp_path)]
