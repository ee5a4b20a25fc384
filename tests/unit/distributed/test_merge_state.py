"""What processes send each other of a held-out split: no more than they gathered."""

import pickle
from collections import defaultdict
from types import SimpleNamespace

import torch

from muomni.distributed.merge_state import joined_state, own_state


def test_a_cell_is_sent_without_the_batch_that_it_was_cut_from():
    batch = torch.randn(64, 9, 512)
    owner = SimpleNamespace(
        cells=([batch[0, 3], batch[5, 1]], ["red", "blue"]),
        rows={"a": batch[1:2]},
        nested=[{"deep": batch[7, 0, 4]}],
        whole=batch,
    )
    sent = own_state(owner, ("cells", "rows", "nested"))
    assert len(pickle.dumps(sent)) < 4 * 512 * (2 + 9 + 1) + 5000 < batch.nbytes / 30
    assert torch.equal(sent["cells"][0][1], batch[5, 1]) and torch.equal(sent["rows"]["a"], batch[1:2])
    assert own_state(owner, ("whole",))["whole"] is not None
    assert own_state(owner, ("whole",))["whole"].data_ptr() == batch.data_ptr(), "what is needed whole is not copied"


def test_what_carries_a_gradient_is_sent_as_numbers():
    weight = torch.ones(3, requires_grad=True)
    (sent,) = own_state(SimpleNamespace(x=[2 * weight]), ("x",))["x"]
    assert not sent.requires_grad
    pickle.dumps(sent)


def test_shares_are_joined_in_order():
    counts: dict[str, int] = defaultdict(int, a=1)
    first = {"names": ["x"], "counts": counts, "hits": torch.tensor([1, 2])}
    second = {"names": ["y"], "counts": defaultdict(int, a=2, b=5), "hits": torch.tensor([0, 4])}
    joined = joined_state([first, second])
    assert joined["names"] == ["x", "y"]
    assert joined["counts"] == {"a": 3, "b": 5}
    assert joined["hits"].tolist() == [1, 6]
