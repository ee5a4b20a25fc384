"""A GPU for tests on machines without one: tensors that say they are on cuda:0 while the CPU computes them.

    with fake_cuda() as gpu:
        gpu.move(module)
        loss = step(gpu.tensors(batch))    # a CPU tensor among them raises, as on a GPU
        loss.backward()
    gpu.waits                              # Counter: (what, "file:line") -> how often the host waited for the device

Such a tensor is a CPU tensor of another class, so all kernels, autograd and the optimizers run as ever. Every call of torch
passes `_call`, which compares devices, counts what makes the host wait on a real GPU (`.item()`, a boolean mask as an index, a
blocking copy, ...), and gives its results the class of its arguments. What happens inside of a single call of torch is not
seen: the table of calls that wait (WAITING) is what is known of them.
"""

import functools
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint
from torch.utils._pytree import tree_map

ROOT = Path(__file__).resolve().parent.parent.parent
PRODUCT = ("muomni", "callbacks", "datamodules", "benchmarks")
CUDA = torch.device("cuda", 0)
#: Calls that read their tensor on the host, whatever their other arguments are.
READING = (
    "item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__", "__repr__",
    "__format__", "__reduce_ex__", "is_nonzero", "equal", "allclose",
)  # fmt: skip
#: Calls whose result has a size that only the device knows, or that look at numbers before they begin.
WAITING = (
    "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "_unique2", "bincount", "histc", "solve",
    "linalg_solve", "linalg_inv", "inv", "linalg_pinv", "pinv", "linalg_cholesky", "cholesky", "linalg_eigh", "eigh",
    "linalg_lstsq", "lstsq", "unfold_dense", "tensor_split",
)  # fmt: skip
#: Makers of new tensors; with a device they land there.
NEW = (
    "zeros", "ones", "empty", "full", "arange", "linspace", "rand", "randn", "randint", "randperm", "eye", "hann_window",
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like", "tensor", "as_tensor",
    "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "scalar_tensor", "logspace",
)  # fmt: skip
MISMATCH_IS_FINE = ("copy_", "to", "type_as", "set_", "__set__", "is_set_to", "ctc_loss", "__setitem__", "__getitem__")


class FakeCudaTensor(Tensor):
    """A CPU tensor that says it is on cuda:0."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _current().call(func, args, kwargs or {})


def _is_gpu(value: Any) -> bool:
    return isinstance(value, FakeCudaTensor)


def _tensors_in(values: Any, found: list[Tensor]) -> list[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            _tensors_in(value, found)
    return found


def _name(func: Any) -> str:
    name = getattr(func, "__name__", "")
    return f"{getattr(func.__self__, '__name__', '')}.{name}" if name in ("__get__", "__set__") else name


def _place() -> str:
    """The innermost line of the product; where it is on no stack, that of the test or library which called torch."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PRODUCT:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    caller = next((frame for frame in reversed(frames) if "/site-packages/torch/" not in frame.filename), frames[-1])
    return f"{caller.filename.partition('site-packages/')[2] or caller.filename}:{caller.lineno}"


class FakeCuda:
    """What `fake_cuda` gives: `move`, `tensors`, and the waits counted so far."""

    def __init__(self) -> None:
        self.waits: Counter[tuple[str, str]] = Counter()

    # --- for tests -----------------------------------------------------------------------------------------------

    def tensor(self, value: Tensor) -> Tensor:
        """A copy on the GPU."""
        return value.detach().clone().as_subclass(FakeCudaTensor).requires_grad_(value.requires_grad)

    def tensors(self, tree: Any) -> Any:
        """All tensors of a nest of containers, or of a batch, on the GPU; nothing is counted."""
        if hasattr(tree, "_map"):
            return tree._map(lambda value: value if _is_gpu(value) else self.tensor(value))
        return tree_map(lambda value: self.tensor(value) if isinstance(value, Tensor) else value, tree)

    def move(self, module: nn.Module) -> nn.Module:
        """In place; parameters that are shared stay so. Hand-made caches of tensors stay where they are, as with `.to`."""
        moved: dict[int, Any] = {}
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None and not _is_gpu(parameter):
                    if id(parameter) not in moved:
                        moved[id(parameter)] = nn.Parameter(self.tensor(parameter.data), parameter.requires_grad)
                    part._parameters[name] = moved[id(parameter)]
            for name, buffer in list(part._buffers.items()):
                if buffer is not None and not _is_gpu(buffer):
                    part._buffers[name] = self.tensor(buffer)
        if hasattr(module, "_device"):
            module._device = CUDA
        return module

    @staticmethod
    def bring_back(module: nn.Module) -> nn.Module:
        """In place, to the CPU, as `module.cpu()` does."""
        moved: dict[int, Any] = {}
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if _is_gpu(parameter):
                    if id(parameter) not in moved:
                        plain = _as(parameter.detach(), Tensor)
                        moved[id(parameter)] = nn.Parameter(plain, parameter.requires_grad)
                    part._parameters[name] = moved[id(parameter)]
            for name, buffer in list(part._buffers.items()):
                if _is_gpu(buffer):
                    part._buffers[name] = _as(buffer, Tensor)
            if hasattr(part, "_device"):
                part._device = torch.device("cpu")
        return module

    def counted(self) -> dict[str, int]:
        """Waits since the last call, as "what at file:line" -> how often."""
        counts = {f"{what} at {place}": count for (what, place), count in self.waits.items()}
        self.waits.clear()
        return counts

    # --- what stands between the project and torch ---------------------------------------------------------------

    def wait(self, what: str) -> None:
        """Count one."""
        self.waits[what, _place()] += 1

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of torch."""
        name = _name(func)
        leaves = _tensors_in(args, []) if not kwargs else _tensors_in(kwargs.values(), _tensors_in(args, []))
        on_gpu = any(map(_is_gpu, leaves))
        if name == "device.__get__":
            return CUDA if on_gpu else self._run(func, args, kwargs)
        if name == "is_cuda.__get__":
            return on_gpu
        if name in ("is_cpu.__get__", "pin_memory", "is_pinned"):
            return args[0] if name == "pin_memory" else False if on_gpu else self._run(func, args, kwargs)
        if name in ("to", "cuda", "cpu"):
            return self._moved(func, name, args, kwargs)
        if name in ("copy_", "__setitem__") and on_gpu and len({_is_gpu(x) for x in (args[0], args[-1])}) == 2:
            value = args[1] if name == "copy_" else args[2]
            if isinstance(value, Tensor) and (value.dim() or _is_gpu(value)):
                # A copy to the host returns once it has ended, unless the host's memory is pinned, as that of `.to` is.
                quiet = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
                if not quiet or not _is_gpu(args[0]):
                    self.wait(f"blocking {name}")
                return self._run(func, args, kwargs, gpu=_is_gpu(args[0]))
        if name == "backward" and on_gpu:
            return self._backward(func, args, kwargs)
        if name == "register_hook" and on_gpu:
            return self._run(func, (args[0], functools.partial(self._with_gradient, args[1])), kwargs)
        asked = kwargs.get("device")
        to_gpu = asked is not None and torch.device(asked).type == "cuda"
        if name in NEW and asked is not None:
            kwargs = {**kwargs, "device": "cpu"}
            if to_gpu and name in ("tensor", "as_tensor", "new_tensor") and not on_gpu:
                self.wait("tensor of numbers made on the device")
            return self._run(func, args, kwargs, gpu=to_gpu)
        if on_gpu:
            self._look(name, args, kwargs, leaves)
        if name == "__format__":  # torch formats tensors of its own class alone as numbers
            return format(_as(args[0].detach(), Tensor), *args[1:])
        keeps = name not in ("item", "tolist", "numpy")
        return self._run(func, args, kwargs, gpu=on_gpu and keeps)

    @staticmethod
    def _backward(func: Any, args: Any, kwargs: Any) -> Any:
        """With this class on: what Python computes on the way, as blocks that are computed again, is looked at too."""
        with torch._C._EnableTorchFunction():
            return func(_as(args[0], Tensor), *args[1:], **kwargs)

    @staticmethod
    def _with_gradient(hook: Any, gradient: Tensor) -> Any:
        """A hook of a tensor: autograd hands it a plain tensor, and this class is off during `backward`."""
        with torch._C._EnableTorchFunction():
            return hook(_as(gradient, FakeCudaTensor))

    def _run(self, func: Any, args: Any, kwargs: Any, *, gpu: bool = False) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **kwargs)
        return _as(out, FakeCudaTensor) if gpu else out

    def _moved(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """`x.to(...)`, `x.cpu()`, `x.cuda()`."""
        x, rest = args[0], [each for each in args[1:] if each is not None]
        target: torch.device | None = torch.device("cpu") if name == "cpu" else CUDA if name == "cuda" else None
        if name == "to":
            where = kwargs.pop("device", None)
            for index, each in enumerate(rest):
                if isinstance(each, (str, torch.device)):
                    where = rest.pop(index)
                    break
                if isinstance(each, Tensor):
                    rest[index] = each.dtype
                    where = CUDA if _is_gpu(each) else torch.device("cpu")
                    break
            target = None if where is None else torch.device(where)
        same = target is None or (target.type == "cuda") == _is_gpu(x)
        gpu = _is_gpu(x) if target is None else target.type == "cuda"
        if not same and not kwargs.get("non_blocking") and True not in rest:
            self.wait(f"blocking copy to {target.type}" if target is not None else "")
        if name != "to":
            return x if same else _as(x.detach().clone() if not x.requires_grad else x.clone(), _kind(gpu))
        if not rest and not {k: v for k, v in kwargs.items() if k not in ("non_blocking", "copy")}:
            return x if same else _as(self._run(Tensor.clone, (x,), {}), _kind(gpu))
        out = self._run(func, (x, *rest), kwargs)
        return _as(out, _kind(gpu)) if out is not x or not same else out

    def _look(self, name: str, args: Any, kwargs: Any, leaves: list[Tensor]) -> None:
        """Devices that differ, and waits."""
        others = [leaf for leaf in leaves if not _is_gpu(leaf) and leaf.dim() > 0]
        if name in ("__getitem__", "__setitem__"):
            self._look_at_index(args)
        elif others and name.split(".")[-1] not in MISMATCH_IS_FINE and not name.endswith("__get__"):
            shapes = [tuple(other.shape) for other in others]
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({name} with "
                f"CPU tensors {shapes} at {_place()})"
            )
        if name in READING or name in WAITING:
            self.wait(name)
        elif name == "where" and len(args) + len(kwargs) == 1:
            self.wait("where with one argument")
        elif name == "one_hot" and len(args) + len(kwargs) == 1:
            self.wait("one_hot without its size")
        elif name == "repeat_interleave" and isinstance(args[1] if len(args) > 1 else None, Tensor):
            if kwargs.get("output_size") is None:
                self.wait("repeat_interleave without its size")
        elif name == "multinomial" and not (kwargs.get("replacement") or True in args[2:]):
            self.wait("multinomial without replacement")
        elif name == "ctc_loss":
            if any(map(_is_gpu, [*args[2:4], *kwargs.values()])):
                self.wait("ctc_loss with lengths on the device")
        elif name in NEW and name not in ("new_tensor",) and any(_is_gpu(x) for x in args[int(name in LIKE) :]):
            self.wait(f"{name} of a number on the device")

    def _look_at_index(self, args: Any) -> None:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        if not _is_gpu(args[0]) and any(_is_gpu(each) and each.dim() for each in index):
            raise RuntimeError(
                f"indices should be either on cpu or on the same device as the indexed tensor (cpu) at {_place()}"
            )
        scalar = len(args) > 2 and not (isinstance(args[2], Tensor) and args[2].numel() != 1)
        for each in index:
            if isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) and not scalar:
                self.wait("boolean mask as an index")
            elif isinstance(each, Tensor) and not _is_gpu(each) and each.dim():
                self.wait("index on the CPU")
            elif isinstance(each, Tensor) and _is_gpu(each) and not each.dim() and _is_gpu(args[0]):
                self.wait("number on the device as an index")
            elif isinstance(each, list):
                self.wait("list as an index")
            elif isinstance(each, slice) and any(map(_is_gpu, (each.start, each.stop, each.step))):
                self.wait("number on the device as a bound")


LIKE = tuple(name for name in NEW if name.endswith("_like") or name.startswith("new_"))


def _kind(gpu: bool) -> type[Tensor]:
    return FakeCudaTensor if gpu else Tensor


def _as(out: Any, kind: type[Tensor]) -> Any:
    """Results as tensors of that class; tuples with names stay such."""

    def change(value: Any) -> Any:
        if not isinstance(value, Tensor) or type(value) is kind or (kind is FakeCudaTensor and _is_gpu(value)):
            return value
        with torch._C.DisableTorchFunctionSubclass():
            return value.as_subclass(kind)

    return change(out) if isinstance(out, Tensor) else tree_map(change, out) if isinstance(out, (tuple, list)) else out


class _Calls(TorchFunctionMode):
    """Calls without a GPU tensor among their arguments may make one."""

    def __init__(self, gpu: FakeCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.gpu.call(func, args, kwargs or {})


class _Event:
    """Of a stream that is always done."""

    def record(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """torch's own, which asks tensors for their device behind all Python."""
    groups = _group_by_device(lists, with_indices)
    return {
        (CUDA if _is_gpu(each[0][0]) else device, dtype): (each, rest)
        for (device, dtype), (each, rest) in groups.items()
    }


def _module_to(gpu: FakeCuda) -> Any:
    """`Module.to` changes what a parameter holds, which would leave its class as it is."""
    plain = nn.Module.to

    def to(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        where = kwargs.get("device", args[0] if args and isinstance(args[0], (str, torch.device)) else None)
        return (
            gpu.move(module)
            if where is not None and torch.device(where).type == "cuda"
            else plain(module, *args, **kwargs)
        )

    return to


_group_by_device = clip_grad._group_tensors_by_device_and_dtype
_open: list[FakeCuda] = []


def _current() -> FakeCuda:
    return _open[-1] if _open else FakeCuda()


@contextmanager
def fake_cuda(*, capability: tuple[int, int] = (8, 0)) -> Iterator[FakeCuda]:
    """A GPU of that capability while the context is open. Inference mode is `no_grad`: its tensors take no other class."""
    gpu = FakeCuda()
    _open.append(gpu)

    def quiet(mode: Any = True) -> Any:
        return torch.no_grad() if mode else nullcontext()

    try:
        with (
            mock.patch.object(torch, "inference_mode", quiet),
            mock.patch.object(torch.cuda, "Event", _Event),
            mock.patch.object(clip_grad, "_group_tensors_by_device_and_dtype", _grouped),
            mock.patch.multiple(
                torch.cuda,
                get_device_capability=lambda *_: capability,
                get_device_name=lambda *_: "NVIDIA A100",
                get_rng_state=lambda *_: torch.zeros(16, dtype=torch.uint8),
                set_rng_state=lambda *_: None,
                max_memory_allocated=lambda *_: 0,
                synchronize=lambda *_: gpu.wait("synchronize"),
            ),
            # What autograd keeps of a block is plain in the forward pass, and of this class where Python computes it again.
            mock.patch.dict(checkpoint._allowed_determinism_checks_to_fns, default=lambda _: {}),
            mock.patch.object(nn.Module, "to", _module_to(gpu)),
            mock.patch.object(nn.Module, "cpu", gpu.bring_back),
            _Calls(gpu),
        ):
            yield gpu
    finally:
        _open.remove(gpu)
