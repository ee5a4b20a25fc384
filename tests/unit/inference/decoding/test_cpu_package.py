"""Against torch's own runner of the same package."""

import gc
import sys
import threading

import pytest
import torch
from torch import nn

from muomni.inference.decoding import aot_cache
from muomni.inference.decoding.cpu_package import CPUPackage

pytestmark = pytest.mark.slow  # a compiler


class Step(nn.Module):
    """Writes into a buffer that it is given, and has a weight and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.register_buffer("shift", torch.arange(16.0))

    def forward(self, x, seen):
        for _ in range(40):
            x = torch.tanh(self.layer(x))
        seen += x.sum(0)
        return x + self.shift, x.argmax(1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    torch.manual_seed(0)
    step, path = Step().eval(), tmp_path_factory.mktemp("package") / "step.pt2"
    rows = {0: torch.export.Dim("rows", min=2, max=4096)}
    aot_cache._build(step, [torch.zeros(3, 16), torch.zeros(16)], [rows, None], path)
    return step, path


def weights_of(step):
    return {name: tensor.detach() for name, tensor in step.state_dict().items()}


def test_the_outputs_and_what_is_written_are_those_of_torch_s_runner(built):
    step, path = built
    package = CPUPackage(path, weights_of(step))
    other = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", True, 1, -1)
    other.load_constants(weights_of(step), False, True, True)
    for rows in (2, 5, 64):
        x, seen, theirs = torch.randn(rows, 16), torch.zeros(16), torch.zeros(16)
        ours, reference = package([x, seen]), other.boxed_run([x, theirs])
        assert all(torch.equal(a, b) for a, b in zip(ours, reference, strict=True))
        assert torch.equal(seen, theirs) and seen.abs().sum() > 0
        assert torch.allclose(ours[0], step(x, torch.zeros(16))[0], atol=1e-5)


def test_weights_are_not_copied(built):
    step, path = built
    weights = weights_of(step)
    weights["layer.bias"] = weights["layer.bias"].clone()
    package, x = CPUPackage(path, weights), torch.randn(4, 16)
    before = package([x, torch.zeros(16)])[0]
    weights["layer.bias"] += 1.0
    assert not torch.equal(package([x, torch.zeros(16)])[0], before)


def test_what_is_not_used_any_more_frees_its_weights(built):
    step, path = built
    weights = {name: tensor.clone() for name, tensor in weights_of(step).items()}
    package = CPUPackage(path, weights)
    held = weights["layer.weight"]
    del weights
    before = held._use_count()
    package([torch.randn(4, 16), torch.zeros(16)])
    del package
    gc.collect()
    assert held._use_count() == before - 1


def test_other_threads_go_on_during_a_call(built):
    """With so long a switching interval a thread gets Python's lock only from one that gives it away."""
    step, path = built
    package = CPUPackage(path, weights_of(step))
    asked, counted, stop = threading.Semaphore(0), [0], threading.Event()

    def other():
        while asked.acquire() and not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=other)
    thread.start()
    arguments, interval = [torch.randn(4096, 16), torch.zeros(16)], sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        for _ in range(100):
            asked.release()  # the other thread is ready, and waits for the lock alone
            package(arguments)
        during = counted[0]
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        asked.release()
        thread.join()
    assert during > 50


def test_what_does_not_fit_is_said(built, tmp_path):
    step, path = built
    weights = weights_of(step)
    del weights["shift"]
    with pytest.raises(RuntimeError, match="has not: shift"):
        CPUPackage(path, weights)
    damaged = tmp_path / "damaged.pt2"
    damaged.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RuntimeError, match=r"damaged\.pt2"):
        CPUPackage(damaged, weights_of(step))
