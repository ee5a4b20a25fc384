"""What this machine's processor can do."""

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
