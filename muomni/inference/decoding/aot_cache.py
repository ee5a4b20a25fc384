"""On-disk cache of compiled decode steps: AOTInductor packages in the user's cache, or in a given folder.

A package's name is a digest of everything it depends on: shape and dtypes of the Thinker, number of rows, torch's version, the
processor or GPU, number of threads, and the source it was traced from. It holds code only; weights are supplied by the loaded
model and sampling options are an argument, so one package serves every model of a shape and all options. Files may be deleted
at any time and are rebuilt when needed; the least recently used are removed automatically (`user_cache.prune`).
"""

import hashlib
import json
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.inference.decoding.cpu_package import CPUPackage
from muomni.inference.decoding.native import library
from muomni.inference.decoding.user_cache import cache_folder, check_own, prune
from muomni.inference.errors import MuomniError

FORMAT = 2
MAX_PACKAGES, MAX_BYTES = 32, 1 << 30  # number of packages kept, and their total size
log = logging.getLogger(__name__)
#: Source files that a step is traced from: a change in any of them invalidates the packages.
SOURCES = (
    "nn/*.py",
    "models/thinker.py",
    "inference/decoding/compiled_step.py",
    "inference/decoding/int4.py",
    "inference/decoding/int8.py",
    "inference/decoding/packed_linear.py",
    "inference/decoding/weight_only.py",
    "inference/decoding/sampling.py",
    "inference/scheduling/flat_cache.py",
    "inference/scheduling/near_ties.py",
    "inference/scheduling/prompt_step.py",
    "inference/scheduling/rows_step.py",
)
Package = Callable[[list[Tensor]], list[Tensor]]
BUILDING = ".building-"  # prefix of unfinished packages
ABANDONED_AFTER = 3600.0  # seconds
COMPILER: dict[str, Any] = {
    "allow_buffer_reuse": False,  # its estimate fails on a branch (torch 2.11: "Start index 7 out of bounds")
}
OPTIONS: dict[str, Any] = COMPILER | {
    "aot_inductor.package_constants_in_so": False,  # weights are supplied by the loaded model
    "cpp.enable_floating_point_contract_flag": "fast",  # fused multiply-add
}


def capability(device: torch.device) -> str:
    """What the machine code is compiled for: name and capability of the GPU, or the processor's instruction sets."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    known = sorted(
        f"{name}={value}" for name, value in torch.cpu.get_capabilities().items() if not name.startswith("num_")
    )
    return f"{platform.machine()} {' '.join(known)}"


def source_digest() -> str:
    """Digest of `SOURCES`."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def package_name(key: Mapping[str, Any], *, device: torch.device) -> str:
    """File name of the step that `key` describes, on this machine."""
    whole = dict(key) | {
        "format": FORMAT,
        "torch": torch.__version__,
        "machine": capability(device),
        "threads": torch.get_num_threads(),
        "source": source_digest(),
        "operators": library.C_SHIMS if device.type == "cpu" and library.available() else None,
    }
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return f"decode-{device.type}-{digest}.pt2"


def find_or_build(
    step: nn.Module,
    example: Sequence[Any],
    *,
    dynamic: Sequence[Any],
    key: Mapping[str, Any],
    folder: Path | None,
    device: torch.device,
) -> Package:
    """`find`, or built into the folder.

    example, dynamic: arguments and dynamic shapes for `torch.export.export`. key: what the package depends on. folder: None is
    the user's cache. Raises MuomniError if there is no compiler, the folder cannot be written, or the cache belongs to another
    user.
    """
    found = find(step, key=key, folder=folder, device=device)
    if found is None:
        _build(step, example, dynamic, _package_path(key, folder=folder, device=device))
        found = find(step, key=key, folder=folder, device=device)
    assert found is not None, "a package that was just built can be loaded"
    return found


def find(step: nn.Module, *, key: Mapping[str, Any], folder: Path | None, device: torch.device) -> Package | None:
    """The compiled step as a function of its flat arguments -> its outputs, loaded from the folder; None if it is not there or
    damaged. Arguments and errors as of `find_or_build`."""
    path = _package_path(key, folder=folder, device=device)
    if not path.is_file():
        return None
    if folder is None:
        check_own(path)
    try:
        call = _load(path, step, device=device)
    except RuntimeError as error:
        log.warning("%s cannot be loaded (%s): it is rebuilt", path, str(error).splitlines()[0])
        return None
    with suppress(OSError):  # a given folder may belong to another user
        os.utime(path)  # mark as recently used
        prune(path.parent.glob("decode-*.pt2"), max_files=MAX_PACKAGES, max_bytes=MAX_BYTES)
    return call


def _package_path(key: Mapping[str, Any], *, folder: Path | None, device: torch.device) -> Path:
    return (cache_folder("compiled") if folder is None else folder) / package_name(key, device=device)


def use_private_compiler_cache() -> None:
    """Point torch's compiler cache to the user's cache unless TORCHINDUCTOR_CACHE_DIR is set: torch's default is a name under
    /tmp, which another user could have created first."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = cache_folder("inductor")
        prune((path for path in folder.rglob("*") if path.is_file()), max_files=20_000, max_bytes=MAX_BYTES)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def _build(step: nn.Module, example: Sequence[Any], dynamic: Sequence[Any], path: Path) -> None:
    """Compile into a temporary file, renamed to `path` when complete."""
    use_private_compiler_cache()
    from torch._inductor.cpp_builder import get_cpp_compiler  # importing it takes a second and logs a search for CUDA
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise MuomniError("compile= needs a C++ compiler (Debian: apt install g++); compile=none needs none") from error
    log.info("compiling the decode step once; it is kept as %s", path)
    start = time.perf_counter()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=BUILDING, suffix=".pt2")
    except OSError as error:
        raise MuomniError(
            f"{path.parent}: compiled steps cannot be kept there ({error}); name another by packages=DIR"
        ) from error
    os.close(handle)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch warns about its own code
            program = torch.export.export(step, tuple(example), dynamic_shapes=tuple(dynamic))
            called = {"aot_inductor.custom_ops_to_c_shims": library.c_shims()} if library.available() else {}
            torch._inductor.aoti_compile_and_package(program, package_path=temporary, inductor_configs=OPTIONS | called)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    log.info("compiled in %.1f s", time.perf_counter() - start)


def _clear_abandoned(folder: Path) -> None:
    """Remove what killed builds left; a build in progress is younger than `ABANDONED_AFTER`."""
    for path in folder.glob(f"{BUILDING}*"):
        if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
            path.unlink(missing_ok=True)


def weights_by_name(step: nn.Module) -> dict[str, Tensor]:
    """Of a tied head, either name: a package knows it by one of them."""
    known = [*step.named_parameters(remove_duplicate=False), *step.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in known}


def _load(path: Path, step: nn.Module, *, device: torch.device) -> Package:
    weights = weights_by_name(step)
    if device.type == "cpu":
        return CPUPackage(path, weights)
    # The runner itself: torch's Python wrapper takes seconds to import, and parses its description again at each call.
    package = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", True, 1, -1)
    used = {name: weights[name] for name in package.get_constant_fqns()}
    package.load_constants(used, False, True, True)  # active at once, complete, not copied
    run: Package = package.boxed_run
    return run
