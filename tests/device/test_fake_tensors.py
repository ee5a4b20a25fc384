"""What torch's own FakeTensorMode can say of a GPU: shapes, dtypes and devices of every operation, on cuda:0, without computing.

It runs forward passes and exports a whole decode step as one graph, as it is for a GPU; a read of the device is an error in both.
It cannot train: torch's autograd wants a CUDA context for the backward pass of such tensors (2.11: "hasPrimaryContext expects a
valid device index"). So steps of training run on tensors of the CPU that claim to be elsewhere (fake_cuda.py).
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from muomni.inference.decoding.compiled_step import DecodeStep
from tests.device.fake_cuda import CUDA
from tests.unit.inference.conftest import tiny_thinker

ROWS, CAPACITY, SLOTS = 2, 48, 32


def arguments(thinker, cache):
    """Of a decode step after a prompt of eight tokens."""
    numbers = torch.zeros(ROWS, dtype=torch.long, device=CUDA)
    seen = torch.zeros(ROWS, thinker.vocab_size, dtype=torch.bool, device=CUDA)
    settings = torch.ones(7, dtype=torch.float64, device=CUDA)
    counters = [torch.full((), value, device=CUDA) for value in (8, 0)]
    slots = torch.arange(SLOTS, device=CUDA)
    return (
        numbers,
        *counters,
        slots,
        numbers,
        numbers.clone(),
        settings,
        seen,
        *map(list, (cache.keys, cache.values, cache.inputs)),
    )


def make_thinker():
    """Rotary tables are made on the CPU and move with their module; parameters cannot move once they are fake."""
    thinker = tiny_thinker()
    for module in thinker.modules():
        module._buffers.update({name: buffer.to(CUDA) for name, buffer in module._buffers.items()})
    return thinker


@pytest.fixture
def on_cuda():
    """What is made here is on cuda:0, and has no numbers."""
    with FakeTensorMode(), torch.device(CUDA), torch.no_grad():
        yield


@pytest.mark.usefixtures("on_cuda")
def test_a_decode_step_is_one_graph_without_a_read_of_the_device():
    """A CUDA graph can record it; on a CPU the same step chooses between branches."""
    thinker = make_thinker()
    cache = thinker.new_cache(ROWS, CAPACITY)
    step = DecodeStep(thinker, count=2).eval()
    program = torch.export.export(step, arguments(thinker, cache), strict=False)
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    assert len(nodes) > 100
    reads = (torch.ops.aten._local_scalar_dense.default, torch.ops.higher_order.cond)
    assert not [node for node in nodes if node.target in reads]
    values = {node: node.meta["val"] for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)}
    elsewhere = {node.target for node, value in values.items() if value.device != CUDA or value.is_cpu}
    assert elsewhere <= {torch.ops.aten.lift_fresh_copy.default}, "numbers of the code, which are part of a kernel"


@pytest.mark.usefixtures("on_cuda")
def test_prefill_and_a_step_keep_to_the_device():
    thinker = make_thinker()
    cache = thinker.new_cache(ROWS, CAPACITY)
    ids = torch.zeros(ROWS, 8, dtype=torch.long)
    for tokens in (ids, ids[:, :1]):
        logits = thinker(tokens, cache=cache, last_only=True).logits
        assert (logits.device, logits.shape) == (CUDA, (ROWS, 1, thinker.vocab_size))


@pytest.mark.usefixtures("on_cuda")
def test_a_read_of_the_device_ends_it():
    with pytest.raises(DataDependentOutputException):
        torch.zeros(1).item()
