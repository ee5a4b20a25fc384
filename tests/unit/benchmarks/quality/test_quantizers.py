"""python -m benchmarks.quality.quantizers: codebooks learn, and what is left is what it says."""

import torch

from benchmarks.quality.quantizers import learned, main, quantizers, source

CFG = {"dim": 8, "codebooks": 2, "entries": 8, "decay": 0.8, "idle": 0.3}


def test_more_steps_leave_less():
    torch.manual_seed(0)
    draw = source(8, 0)
    batches, held_out = [draw(64)[None] for _ in range(30)], draw(500)[None]
    few, many = (learned(*quantizers(CFG)["muomni"], batches[:n], held_out)["left %"] for n in (1, 30))
    assert 0 < many < few < 100


def test_nothing_is_left_of_what_is_returned_as_it_is():
    x = torch.randn(1, 40, 8)
    row = learned(torch.nn.Identity(), lambda each: (each, torch.arange(40).view(1, 40, 1)), [x], x)
    assert row["left %"] == 0 and row["entries used"] == 40


def test_the_command_prints_a_table(capsys):
    main(["steps=2", "batch=32", "dim=8", "codebooks=2", "entries=8"])
    assert "left %" in capsys.readouterr().out
