"""The C++ operators of this folder as `torch.ops.muomni.*`: built once by the machine's compiler, kept in the user's cache.

The sources know no processor by name: they are compiled for the largest set of instructions (`LEVELS`) that this one has.
Packages of AOTInductor call the same functions directly, without torch's dispatcher (`C_SHIMS`), through `shims.cpp`: a second
library, the only one whose names are visible to the whole process.
"""

import ctypes
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from muomni.inference.decoding.user_cache import cache_folder, check_own, prune
from muomni.inference.errors import MuomniError

log = logging.getLogger(__name__)
SOURCES = ("float_linear.cpp", "packed_linear.cpp", "row_block.cpp")
HEADERS = ("float_products.h", "tensors.h", "vectors.h", "rounded.h", "packed_sums.h")
SHIMS = "shims.cpp"
#: Name of a set of instructions, most capable first -> capabilities (torch.cpu) that it needs, options of the compiler.
LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "avx512_vnni": (
        ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_vnni", "avx2", "fma3", "f16c"),
        ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx2", "-mfma", "-mf16c"),
    ),
    "avx2": (("avx2", "fma3", "f16c"), ("-mavx2", "-mfma", "-mf16c")),
    "plain": ((), ()),
}
SHARED = ("-O3", "-std=c++17", "-fPIC", "-shared")
FLAGS = (*SHARED, "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno")
NAMESPACE = "muomni"  # of the operators
#: Operator -> how a package declares the function that it calls.
C_SHIMS = {
    "float_linear": "AOTITorchError aoti_torch_cpu_float_linear(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle*)",
    **{
        name: f"AOTITorchError aoti_torch_cpu_{name}(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle, int64_t, "
        "AtenTensorHandle*)"
        for name in ("int8_linear", "int4_linear")
    },
}
MAX_LIBRARIES, MAX_BYTES = 8, 1 << 26  # kept in the cache
_FOLDER = Path(__file__).resolve().parent
_lock = threading.Lock()
_found: list[bool] = []  # what `available` answered
_builder: list[threading.Thread] = []  # of `ready`


def available() -> bool:
    """Load the operators, which builds them if need be; False if they cannot be had, which is logged once."""
    if _found:  # torch.compile cannot trace a lock
        return _found[0]
    with _lock:
        if not _found:
            try:
                _load(level())
                _found.append(True)
            except MuomniError as error:
                log.warning("decoding uses torch's own products, which are slower: %s", error)
                _found.append(False)
        return _found[0]


def ready() -> bool:
    """`available` without waiting for the compiler: operators that were never built are built by a thread meanwhile."""
    if _found:
        return _found[0]
    if not _lock.acquire(blocking=False):  # they are being built
        return False
    try:
        if _builder:
            return False
        if not _is_built():
            # No daemon: of a program that ends sooner than the compiler, the next run would find nothing again.
            _builder.append(threading.Thread(target=available, name="muomni-operators"))
            _builder[0].start()
            return False
    finally:
        _lock.release()
    return available()


def _is_built() -> bool:
    try:
        return _path(level()).is_file()
    except MuomniError:  # there is no folder for them, which `available` says
        return True


def level() -> str:
    """The most capable of `LEVELS` that this processor has."""
    return next(name for name in LEVELS if has(name))


def has(name: str) -> bool:
    """True if this processor has the instructions of a level."""
    known = torch.cpu.get_capabilities()
    return all(known.get(each, False) for each in LEVELS[name][0])


def c_shims() -> dict[torch._ops.OpOverload, list[str]]:
    """For `aot_inductor.custom_ops_to_c_shims`; the operators must be loaded."""
    return {getattr(torch.ops.muomni, name).default: [declaration] for name, declaration in C_SHIMS.items()}


def _path(name: str) -> Path:
    return cache_folder("native") / f"operators-{name}-{_digest(name)}.so"


def _load(name: str) -> None:
    path = _path(name)
    operators = _library(path, lambda target: build(target, name), os.RTLD_LOCAL)
    shims = _library(path.with_name(f"shims-{_digest(name)}.so"), build_shims, os.RTLD_GLOBAL)
    for each in C_SHIMS:
        function = ctypes.cast(getattr(operators, f"aoti_torch_cpu_{each}"), ctypes.c_void_p)
        ctypes.c_void_p.in_dll(shims, f"muomni_{each}").value = function.value
    _register_shapes()
    prune(path.parent.glob("*.so"), max_files=MAX_LIBRARIES, max_bytes=MAX_BYTES)


def _library(path: Path, make: Callable[[Path], None], mode: int) -> ctypes.CDLL:
    """The library at `path`, built first if it is not there, and marked as recently used."""
    if path.is_file():
        check_own(path)
    else:
        make(path)
    try:
        library = ctypes.CDLL(str(path), mode=mode)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise MuomniError(f"{path} cannot be loaded ({error}): it is built again next time") from error
    os.utime(path)
    return library


def _digest(name: str) -> str:
    """Of everything that the library depends on."""
    digest = hashlib.sha256(repr((torch.__version__, platform.machine(), name, LEVELS[name], FLAGS)).encode())
    for source in (*SOURCES, *HEADERS, SHIMS):
        digest.update((_FOLDER / source).read_bytes())
    return digest.hexdigest()[:16]


def build(path: Path, name: str, *, namespace: str = NAMESPACE) -> None:
    """Compile the operators for a level of `LEVELS` into a library at `path`, which adds them to torch.ops.NAMESPACE when it is
    loaded. Raises MuomniError if there is no compiler, or the compiler fails."""
    root = Path(torch.__file__).resolve().parent
    flags = (*FLAGS, *LEVELS[name][1], f'-DNAMESPACE="{namespace}"', f"-I{root / 'include'}")
    _compile(path, SOURCES, flags, (f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10"))


def build_shims(path: Path) -> None:
    """Compile `SHIMS` into a library at `path`, which needs no other. Raises as `build` does."""
    _compile(path, (SHIMS,), SHARED, ())


def _compile(path: Path, sources: Sequence[str], flags: Sequence[str], libraries: Sequence[str]) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler  # importing it takes a second
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        compiler = get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise MuomniError("there is no C++ compiler (Debian: apt install g++)") from error
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".building-", suffix=".so")
    os.close(handle)
    command = [compiler, *flags, *(str(_FOLDER / source) for source in sources), "-o", temporary, *libraries]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = next(
                (line for line in done.stderr.splitlines() if "error" in line), f"exit status {done.returncode}"
            )
            raise MuomniError(f"{compiler} cannot compile {_FOLDER}: {reason}")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _register_shapes() -> None:
    """Tell torch.export and torch.compile the shapes of results."""

    @torch.library.register_fake(f"{NAMESPACE}::float_linear")
    def _(x: Tensor, weight: Tensor) -> Tensor:
        return x.new_empty((*x.shape[:-1], weight.shape[0]))

    @torch.library.register_fake(f"{NAMESPACE}::int8_linear")
    @torch.library.register_fake(f"{NAMESPACE}::int4_linear")
    def _(x: Tensor, panels: Tensor, scales: Tensor, outputs: int) -> Tensor:
        return x.new_empty((*x.shape[:-1], outputs))

    @torch.library.register_fake(f"{NAMESPACE}::row_block")
    def _(x: Tensor, *_: object) -> Tensor:
        return torch.empty_like(x)
