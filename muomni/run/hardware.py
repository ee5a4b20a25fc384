"""What this machine's processor and GPU can do."""

import os
import platform
from pathlib import Path

import torch

from muomni.cores import available_cores


def has_fast_bfloat16(accelerator: str = "auto") -> bool:
    """Whether bfloat16 matrix products run in hardware: AMX or AVX512-bf16 on a CPU, Ampere or later on a GPU.

    Emulated bfloat16 is tens of times slower than float32. accelerator: what Lightning calls it, `trainer.accelerator`; with
    "auto" the GPU where there is one.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator in ("auto", "cpu"):
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def best_precision(accelerator: str = "auto") -> str:
    """Lightning's name of the precision that `trainer.precision=auto` stands for, on the accelerator that is trained on."""
    return "bf16-mixed" if has_fast_bfloat16(accelerator) else "32-true"


def describe_machine() -> dict[str, str | int]:
    """What a measurement was made on: processor, cores this process may use, memory, accelerator, versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": _processor(),
        "cores": available_cores(),
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
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
