"""What this machine's processor can do."""

import os
import platform
from pathlib import Path

import torch


def has_fast_bfloat16() -> bool:
    """Whether bfloat16 matrix products run in hardware: AMX or AVX512-bf16 on a CPU, Ampere or later on a GPU.

    Emulated bfloat16 is tens of times slower than float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def best_precision() -> str:
    """Lightning's name of the precision that `trainer.precision=auto` stands for."""
    return "bf16-mixed" if has_fast_bfloat16() else "32-true"


def describe_machine() -> dict[str, str | int]:
    """What a measurement was made on: processor, cores this process may use, memory, accelerator, versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": gpu,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    """The processor's name as Linux gives it, elsewhere as Python does."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
