"""Precision is chosen by what the processor can do."""

import pytest
import torch

from muomni import hardware


@pytest.mark.parametrize(
    ("amx", "avx", "expected"), [(True, False, "bf16-mixed"), (False, True, "bf16-mixed"), (False, False, "32-true")]
)
def test_precision_follows_the_processor(monkeypatch, amx, avx, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert hardware.best_precision() == expected


def test_the_machine_is_described():
    machine = hardware.describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_gib"] >= 1
    assert machine["processor"]
    assert machine["threads"] == torch.get_num_threads()
