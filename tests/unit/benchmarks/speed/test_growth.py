import pytest

from benchmarks.speed import growth

SMALL = {"context": 16, "batch": 2, "width": 64, "layers": 1, "steps": 1, "threads": 1, "clock": "wall"}


def test_a_power_is_that_of_the_size():
    before = {"size": 2, "step_ms": 10.0}
    assert growth.power(None, 2, "step_ms", 10.0) is None
    assert growth.power(before, 4, "step_ms", 40.0) == pytest.approx(2)


def test_each_point_is_measured_alone_and_drawn(tmp_path):
    rows = growth.measure(SMALL | {"contexts": ("16",), "batches": ("2", "8"), "widths": ("64",)})
    assert [(row["grows"], row["size"]) for row in rows] == [("context", 16), ("batch", 2), ("batch", 8), ("width", 64)]
    assert all(row["step_ms"] > 0 and row["megabytes"] > 0 for row in rows)
    growth.plot(rows, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_width_without_whole_heads_is_refused():
    with pytest.raises(ValueError, match="width=100"):
        growth.main(["widths=100"])


def leave(connection, options):
    """Ends without a result."""


def test_a_process_that_dies_is_named(monkeypatch):
    monkeypatch.setattr(growth, "_send", leave)
    with pytest.raises(ValueError, match="context=16 batch=2 width=64: the process ended"):
        growth.alone(SMALL)
