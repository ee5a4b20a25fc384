"""Free memory goes back while a training runs."""

from types import SimpleNamespace

from callbacks.heap import Heap
from muomni import heap


def test_every_so_many_steps(monkeypatch):
    given = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(1))
    callback = Heap(every_n_steps=10)
    for step in range(1, 31):
        callback.on_train_batch_end(SimpleNamespace(global_step=step), None)
    assert len(given) == 3
