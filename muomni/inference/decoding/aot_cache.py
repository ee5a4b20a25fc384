"""Compiled decode steps kept on the disk: AOTInductor packages in the user's own cache, or in a folder that was named.

A package is found again by its name, a digest of all it depends on: shape and dtypes of the Thinker, number of rows, torch's
version, the processor or GPU, number of threads, and the source it was traced from. It holds code alone; weights are lent to
it by the loaded model, and how tokens are chosen is an argument: one package serves every model of a shape and all options.
Whatever lies in the folder may be deleted at any time, and is built anew when it is needed; what was used least lately goes by
itself (`user_cache.prune`).
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

from muomni.inference.decoding.user_cache import cache_folder, check_own, prune

FORMAT = 2
MOST, MOST_BYTES = 32, 1 << 30  # packages that are kept, and how large all of them may be
log = logging.getLogger(__name__)
#: What the source of a step can be: any change in it makes other packages.
SOURCES = (
    "nn/*.py",
    "models/thinker.py",
    "inference/decoding/compiled_step.py",
    "inference/decoding/weight_only.py",
    "inference/decoding/sampling.py",
)
BUILDING = ".building-"  # how the names of unfinished packages begin
ABANDONED_AFTER = 3600.0  # seconds
COMPILER: dict[str, Any] = {
    "allow_buffer_reuse": False,  # its estimate fails on a branch (torch 2.11: "Start index 7 out of bounds")
}
OPTIONS: dict[str, Any] = COMPILER | {
    "aot_inductor.package_constants_in_so": False,  # weights are lent
    "cpp.enable_floating_point_contract_flag": "fast",  # multiply and add in one instruction
}


def capability(device: torch.device) -> str:
    """What the machine code is for: name and capability of the GPU, or the processor's instructions."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    known = sorted(
        f"{name}={value}" for name, value in torch.cpu.get_capabilities().items() if not name.startswith("num_")
    )
    return f"{platform.machine()} {' '.join(known)}"


def source_digest() -> str:
    """Of the files that a step is traced from."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def package_name(facts: Mapping[str, Any], *, device: torch.device) -> str:
    """The file's name for a step of these facts on this machine."""
    whole = dict(facts) | {
        "format": FORMAT,
        "torch": torch.__version__,
        "machine": capability(device),
        "threads": torch.get_num_threads(),
        "source": source_digest(),
    }
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return f"decode-{device.type}-{digest}.pt2"


def find_or_build(
    step: nn.Module,
    example: Sequence[Any],
    *,
    dynamic: Sequence[Any],
    facts: Mapping[str, Any],
    folder: Path | None,
    device: torch.device,
) -> Callable[[list[Tensor]], Tensor]:
    """The compiled step as a function of its flat arguments, from the folder or built into it; None: from the user's cache.

    example, dynamic: arguments and dynamic shapes for `torch.export.export`. Raises ValueError where there is no compiler, where
    the folder cannot be written, and for a cache that belongs to someone else.
    """
    path = (cache_folder("compiled") if folder is None else folder) / package_name(facts, device=device)
    if not path.is_file():
        _build(step, example, dynamic, path)
    elif folder is None:
        check_own(path)
    try:
        call = _load(path, step)
    except RuntimeError as error:
        log.warning("%s cannot be loaded (%s): it is built anew", path, str(error).splitlines()[0])
        _build(step, example, dynamic, path)
        call = _load(path, step)
    with suppress(OSError):  # a folder of someone else, that was named
        os.utime(path)  # used now
        prune(path.parent.glob("decode-*.pt2"), most=MOST, most_bytes=MOST_BYTES)
    return call


def use_private_compiler_cache() -> None:
    """Have torch keep what it compiles in the user's cache, unless they chose a place: its own choice is a name under /tmp that
    anyone may have made before."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        folder = cache_folder("inductor")
        prune((path for path in folder.rglob("*") if path.is_file()), most=20_000, most_bytes=MOST_BYTES)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def _build(step: nn.Module, example: Sequence[Any], dynamic: Sequence[Any], path: Path) -> None:
    """Compile into a temporary file, which takes its name when it is whole."""
    use_private_compiler_cache()
    from torch._inductor.exc import InvalidCxxCompiler  # importing it takes a second and looks for CUDA, aloud

    log.info("compiling the decode step, which is done once; it is kept as %s", path)
    start = time.perf_counter()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=BUILDING, suffix=".pt2")
    except OSError as error:
        raise ValueError(
            f"{path.parent}: compiled steps cannot be kept there ({error}); name another by packages=DIR"
        ) from error
    os.close(handle)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about itself
            program = torch.export.export(step, tuple(example), dynamic_shapes=tuple(dynamic))
            torch._inductor.aoti_compile_and_package(program, package_path=temporary, inductor_configs=OPTIONS)
        os.replace(temporary, path)
    except InvalidCxxCompiler as error:
        raise ValueError(
            "compile= needs a C++ compiler (Debian: apt install g++); compile=none does without"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    log.info("compiled in %.1f s", time.perf_counter() - start)


def _clear_abandoned(folder: Path) -> None:
    """What killed builds left; a build that still runs is younger."""
    for path in folder.glob(f"{BUILDING}*"):
        if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
            path.unlink(missing_ok=True)


def _load(path: Path, step: nn.Module) -> Callable[[list[Tensor]], Tensor]:
    # The runner itself: torch's Python around it takes seconds to import, and parses its description anew at each call.
    package = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", True, 1, -1)
    state = dict(step.named_parameters()) | dict(step.named_buffers())
    lent = {name: state[name].detach() for name in package.get_constant_fqns()}
    package.load_constants(lent, False, True, True)  # into use at once, all of them, and not copied

    def call(arguments: list[Tensor]) -> Tensor:
        return package.boxed_run(arguments)[0]

    return call
