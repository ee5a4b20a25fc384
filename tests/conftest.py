"""For every test: one thread (the tensors are tiny), and settings of the surroundings that no test may depend on."""

import os

import pytest
import torch

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_tracebacks_asked_for(monkeypatch):
    monkeypatch.delenv("MUOMNI_TRACEBACK", raising=False)
