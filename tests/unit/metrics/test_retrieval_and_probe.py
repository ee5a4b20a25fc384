"""Recall and the linear probe."""

import pytest
import torch

from muomni.metrics.linear_probe import LinearProbe
from muomni.metrics.retrieval import Retrieval, recall_at_1


def test_recall_of_both_directions():
    similarity = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.1], [0.95, 0.0, 0.3]])
    pictures, captions = recall_at_1(similarity)
    assert round(pictures) == 67 and round(captions) == 67
    assert recall_at_1(torch.eye(4)) == (100, 100)


def items(count, twins):
    """Pairs that are alone, and where `twins` says so the next two of a group."""
    torch.manual_seed(0)
    groups: list[int] = []
    for number, together in enumerate([*twins, *[False] * count]):
        groups += [number] * (2 if together else 1)
    return [{"group": group, "number": i, "x": torch.randn(3)} for i, group in enumerate(groups[:count])]


def measured(pairs, candidates, batch):
    """Recalls, pool size, and for each pool the numbers of its pairs."""
    pools = []

    def compare(pool):
        pools.append([item["number"] for item in pool])
        x = torch.stack([item["x"] for item in pool])
        y = x + 0.8 * torch.stack([torch.sin(7 * item["x"].flip(0)) for item in pool])
        return x @ y.T, torch.eye(len(pool), dtype=torch.bool)

    retrieval = Retrieval(candidates, compare)
    for start in range(0, len(pairs), batch):
        retrieval.add(pairs[start : start + batch])
    return retrieval.finish(), retrieval.size, pools, len(retrieval.right)


@pytest.mark.parametrize("twins", [[], [True] * 50, [False, *[True] * 50], [False, True, True, False] * 10])
@pytest.mark.parametrize(("count", "candidates"), [(60, 10), (63, 10), (64, 9), (7, 10), (10, 10), (11, 10)])
def test_pools_have_one_size_whatever_the_batches(count, candidates, twins):
    pairs = items(count, twins)
    wanted = measured(pairs, candidates, 1000)
    for batch in (1, 3, 10, 12):
        assert measured(pairs, candidates, batch) == wanted
    _, size, pools, asked = wanted
    assert size == min(count, candidates) and {len(pool) for pool in pools} == {size}
    assert asked == count and set().union(*pools) == set(range(count))
    for a, b in zip(pairs, pairs[1:], strict=False):
        if a["group"] == b["group"]:
            assert any({a["number"], b["number"]} <= set(pool) for pool in pools)


def test_whole_pools_are_those_of_recall_at_1():
    pairs = items(20, [])
    (first, second), *_ = measured(pairs, 10, 7)
    x = torch.stack([item["x"] for item in pairs])
    y = x + 0.8 * torch.sin(7 * x.flip(1))
    each = [recall_at_1(x[part] @ y[part].T) for part in (slice(0, 10), slice(10, 20))]
    assert first == pytest.approx((each[0][0] + each[1][0]) / 2)
    assert second == pytest.approx((each[0][1] + each[1][1]) / 2)


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
