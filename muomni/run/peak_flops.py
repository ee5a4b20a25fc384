"""Most operations a second that a device can do, which `<stage>/train/mfu` is a share of.

GPUs: what their makers state for dense matrix products with float32 sums, by the name that the driver gives. Of CPUs nobody
states it, and clocks and cores differ: there, and on a GPU that is not in the table, a matrix product is timed once, in a few
tenths of a second; a busy machine then counts as a slow one.
"""

import time

import torch

#: Part of a GPU's name -> TFLOP/s (bfloat16, or float16 where the GPU has no bfloat16; float32 as matrix products compute it:
#: TF32 where there is one). Longer names first.
PEAK_TFLOPS: dict[str, tuple[float, float]] = {
    "GB200": (2500.0, 1250.0), "B200": (2250.0, 1125.0), "GH200": (989.4, 494.7), "H200": (989.4, 494.7),
    "H100 PCIe": (756.5, 378.0), "H100 NVL": (835.5, 417.5), "H100": (989.4, 494.7), "H800": (989.4, 494.7),
    "H20": (148.0, 74.0), "A100": (312.0, 156.0), "A800": (312.0, 156.0), "A40": (149.7, 74.8), "A30": (165.0, 82.0),
    "A10G": (70.0, 35.0),
    "A10": (125.0, 62.5), "L40S": (362.1, 183.0), "L40": (181.1, 90.5), "L4": (121.0, 60.0), "V100": (125.0, 15.7),
    "T4": (65.0, 8.1),
    "RTX 6000 Ada": (364.2, 182.1), "RTX A6000": (154.8, 77.4), "RTX 5090": (209.5, 104.8), "RTX 4090": (165.2, 82.6),
    "RTX 4080": (97.5, 48.7), "RTX 3090": (71.2, 35.6), "RTX 3080": (59.5, 29.8), "MI325X": (1307.4, 653.7),
    "MI300X": (1307.4, 653.7), "MI250X": (191.5, 47.9), "MI210": (181.0, 45.3),
}  # fmt: skip
#: Sides of the products that are timed: large enough to reach a device's rate, small enough for a few tenths of a second.
CPU_SIDE, GPU_SIDE = 1024, 8192
ROUNDS = 5


def stated_flops(name: str, *, half: bool) -> float | None:
    """FLOP/s of a GPU by its name, in half precision or in float32; None: it is not in the table."""
    words = name.replace("-", " ").split()
    for known, (in_half, in_single) in PEAK_TFLOPS.items():
        parts = known.split()
        if any(words[start : start + len(parts)] == parts for start in range(len(words))):
            return 1e12 * (in_half if half else in_single)
    return None


def measured_flops(device: torch.device, *, half: bool) -> float:
    """The best rate of a large matrix product there. Draws no random numbers."""
    side = CPU_SIDE if device.type == "cpu" else GPU_SIDE
    factor = torch.ones(side, side, device=device, dtype=torch.bfloat16 if half else torch.float32)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = factor @ factor
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
        del result
    return 2 * side**3 / min(seconds)


def peak_flops(device: torch.device, *, half: bool) -> tuple[float, str]:
    """FLOP/s of a device, in half precision or in float32, and in words where it is from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    stated = stated_flops(name, half=half) if device.type == "cuda" else None
    if stated is not None:
        return stated, f"{stated / 1e12:.0f} TFLOP/s, stated for {name}"
    measured = measured_flops(device, half=half)
    return measured, f"{measured / 1e12:.3g} TFLOP/s, measured by a matrix product on this {name}"
