"""Recall and the linear probe."""

import torch

from muomni.metrics.linear_probe import LinearProbe
from muomni.metrics.retrieval import recall_at_1


def test_recall_of_both_directions():
    similarity = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.1], [0.95, 0.0, 0.3]])
    pictures, captions = recall_at_1(similarity)
    assert round(pictures) == 67 and round(captions) == 67
    assert recall_at_1(torch.eye(4)) == (100, 100)


def test_probe_reads_what_is_linear_and_no_more():
    torch.manual_seed(0)
    x = torch.randn(400, 6)
    linear = ["yes" if value > 0 else "no" for value in x[:, 2].tolist()]
    odd = ["yes" if a * b > 0 else "no" for a, b in x[:, :2].tolist()]
    assert LinearProbe(x[:300], linear[:300], ridge=1.0).accuracy(x[300:], linear[300:]) > 90
    assert LinearProbe(x[:300], odd[:300], ridge=1.0).accuracy(x[300:], odd[300:]) < 70


def test_a_class_that_the_fit_never_saw_is_wrong():
    probe = LinearProbe(torch.eye(2).repeat(5, 1), ["a", "b"] * 5, ridge=0.1)
    assert probe.accuracy(torch.eye(2), ["a", "c"]) == 50
