"""Precision is chosen by what the processor can do."""

import pytest
import torch

from muomni.run import hardware


@pytest.mark.parametrize(
    ("amx", "avx", "expected"), [(True, False, "bf16-mixed"), (False, True, "bf16-mixed"), (False, False, "32-true")]
)
def test_precision_follows_the_processor(monkeypatch, amx, avx, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert hardware.best_precision() == expected


def test_precision_is_that_of_the_accelerator_that_is_trained_on(monkeypatch):
    """A GPU that lies idle, or a processor beside the GPU, has no say."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert hardware.best_precision("cpu") == "32-true"
    assert {hardware.best_precision(name) for name in ("auto", "gpu", "cuda")} == {"bf16-mixed"}
    assert hardware.best_precision("mps") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert hardware.best_precision("cpu") == "bf16-mixed"
    assert hardware.best_precision("gpu") == hardware.best_precision() == "32-true"


def test_the_machine_is_described():
    machine = hardware.describe_machine()
    assert machine["cores"] >= 1
    assert machine["memory_gib"] >= 1
    assert machine["processor"]
    assert machine["threads"] == torch.get_num_threads()
