"""AdamW whose two averages take a byte a number (block-wise quantization, Dettmers et al. 2021, arXiv:2110.02861).

Each block of 256 numbers has its largest magnitude in float32, and for each number of it a byte: a float of three bits of
mantissa, with a sign and four bits of exponent for the mean of gradients, with five and no sign for the mean of their squares.
So a number is right to within an eighth wherever it is within 16 (32) powers of two of the largest, much as in the paper's
dynamic code book, and both ways are a few operations on the bits of a float32, where a code book needs a search. Zero is exact,
and a square that is not zero never becomes it: updates stay finite.

Rounding is up or down with a probability, so that an average which changes by less than a step (2 % with a second beta of
.98, a step is 6 to 12 %) still follows on the whole; to the nearest it would stand still. The thresholds are a pure function
of the step and the index within a block: no random state, and a resumed run continues bit for bit.

`vectors` (embeddings, norms, biases) and parameters of fewer than 4096 numbers keep float32, as in the paper.

Not bitsandbytes: its 8-bit optimizers are kernels for CUDA and XPU. Not torchao: it compiles each step, for minutes.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor

from muomni.optim.by_group import ByGroup

BLOCK = 256
SMALLEST = 4096  # numbers of a parameter
#: Numbers that are updated at once: what fits a CPU's cache; on a GPU, what makes few launches.
CHUNK = {"cpu": 1 << 17}
CHUNK_ELSEWHERE = 1 << 24
MANTISSA = 3
SHIFT = 23 - MANTISSA  # bits of a float32's mantissa that are dropped
ONE = 127 << MANTISSA  # what is left of 1.0
TINY = 1.2e-38
AVERAGES = ("exp_avg", "exp_avg_sq")


def dither(step: int, *, salt: int, device: torch.device) -> Tensor:
    """Thresholds of rounding, (BLOCK,) int32 in [0, 2 ** SHIFT): a sequence of low discrepancy over a block, from a start that
    the step decides."""
    mixed = (step * 2 + salt + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1  # splitmix64
    start = (mixed ^ mixed >> 27) >> 64 - SHIFT
    golden = round(0.6180339887 * (1 << SHIFT))
    return ((torch.arange(BLOCK, device=device) * golden + start) & (1 << SHIFT) - 1).int()


def quantize(x: Tensor, thresholds: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """x (N, BLOCK) float32, of no sign unless `signed` -> bytes (N, BLOCK), and the largest magnitude of each block (N, 1)."""
    sizes = x.abs() if signed else x
    largest = sizes.amax(dim=1, keepdim=True)
    codes = ((sizes / largest.clamp_min(TINY)).view(torch.int32).add_(thresholds)) >> SHIFT
    # Comparisons and masks take three times as long on a CPU as what is done with the bits instead.
    if signed:
        codes.sub_(ONE - 127).clamp_min_(0).bitwise_or_((x.view(torch.int32) >> 24).bitwise_and_(128))
    else:
        codes.sub_(ONE - 255).clamp_min_(1).mul_(x.view(torch.int32).clamp_max(1))
    return codes.to(torch.uint8), largest


def dequantize(codes: Tensor, largest: Tensor, *, signed: bool) -> Tensor:
    """The numbers of `quantize`."""
    codes = codes.int()
    sizes = codes & 127 if signed else codes
    bits = (sizes + (ONE - (127 if signed else 255))).bitwise_left_shift_(SHIFT).mul_(sizes.clamp_max(1))
    if signed:
        bits.bitwise_or_(codes.bitwise_and_(128).bitwise_left_shift_(24))
    return bits.view(torch.float32).mul_(largest)


@dataclass(slots=True)
class Piece:
    """Blocks of one parameter: its gradient (N, BLOCK), what of the parameter they are (flat), and their averages."""

    gradient: Tensor
    weight: Tensor
    codes: dict[str, Tensor]
    largest: dict[str, Tensor]


class AdamW8bit(ByGroup):
    """Groups with `eight_bit=True` keep bytes; the others, and small parameters, float32."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "eight_bit": False})

    def state_bytes(self, parameter: Tensor, group: dict[str, Any]) -> int:
        """Of a parameter's state once it has stepped."""
        if not _is_quantized(parameter, group):
            return 2 * 4 * parameter.numel()
        return 2 * _num_blocks(parameter) * (BLOCK + 4)

    def _step_groups(self) -> None:
        for group in self.param_groups:
            together: dict[tuple[int, bool], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self._state_of(parameter, group)
                    state["step"] += 1
                    together[(state["step"], state["exp_avg"].dtype == torch.uint8)].append(parameter)
            for (step, quantized), parameters in together.items():
                (self._update_bytes if quantized else self._update_floats)(parameters, group, step)

    def _state_of(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            if isinstance(parameter, DTensor):
                raise ValueError("optim=adamw8bit is not made for weights that trainer=fsdp2 shards: trainer=ddp")
            state["step"] = 0
            for name in AVERAGES:
                if _is_quantized(parameter, group):
                    count, device = _num_blocks(parameter), parameter.device
                    state[name] = torch.zeros(count, BLOCK, dtype=torch.uint8, device=device)
                    state[f"{name}_largest"] = torch.zeros(count, 1, device=device)
                else:
                    state[name] = torch.zeros_like(parameter, dtype=torch.float32)
        return state

    def _update_floats(self, parameters: list[Tensor], group: dict[str, Any], step: int) -> None:
        """AdamW's step, all parameters in each operation."""
        (beta1, beta2), rate = group["betas"], group["lr"]
        gradients = [parameter.grad.float() for parameter in parameters]  # type: ignore[union-attr]
        means, squares = ([self.state[parameter][name] for parameter in parameters] for name in AVERAGES)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        scales = torch._foreach_div(squares, 1 - beta2**step)
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        updates = torch._foreach_div(means, scales)
        torch._foreach_add_(
            parameters,
            [u.to(p.dtype) for u, p in zip(updates, parameters, strict=True)],
            alpha=-rate / (1 - beta1**step),
        )

    def _update_bytes(self, parameters: list[Tensor], group: dict[str, Any], step: int) -> None:
        """The same for averages in bytes, as many blocks at once as a chunk has."""
        (beta1, beta2), rate = group["betas"], group["lr"]
        device = parameters[0].device
        thresholds = {name: dither(step, salt=salt, device=device) for salt, name in enumerate(AVERAGES)}
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        for pieces in _chunks(self._pieces(parameters), CHUNK.get(device.type, CHUNK_ELSEWHERE) // BLOCK):
            gradient = _joined([piece.gradient for piece in pieces])
            averages = {}
            for name in AVERAGES:
                codes, largest = (_joined([getattr(p, of)[name] for p in pieces]) for of in ("codes", "largest"))
                averages[name] = dequantize(codes, largest, signed=name == "exp_avg")
            mean = averages["exp_avg"].lerp_(gradient, 1 - beta1)
            square = averages["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            counts = [len(piece.gradient) for piece in pieces]
            for name in AVERAGES:
                codes, largest = quantize(averages[name], thresholds[name], signed=name == "exp_avg")
                torch._foreach_copy_([piece.codes[name] for piece in pieces], list(codes.split(counts)))
                torch._foreach_copy_([piece.largest[name] for piece in pieces], list(largest.split(counts)))
            scale = square.div_(1 - beta2**step).sqrt_().add_(group["eps"])
            updates = mean.div_(scale).split(counts)
            own = [
                update.view(-1)[: len(piece.weight)].to(piece.weight.dtype)
                for update, piece in zip(updates, pieces, strict=True)
            ]
            torch._foreach_add_([piece.weight for piece in pieces], own, alpha=-rate / (1 - beta1**step))

    def _pieces(self, parameters: list[Tensor]) -> Iterator[Piece]:
        """A parameter's blocks, no more at once than a chunk has."""
        for parameter in parameters:
            assert parameter.grad is not None
            state, flat = self.state[parameter], parameter.grad.reshape(-1).float()
            if len(flat) % BLOCK:
                flat = F.pad(flat, (0, -len(flat) % BLOCK))
            gradients, weight = flat.view(-1, BLOCK), parameter.view(-1)
            most = CHUNK.get(parameter.device.type, CHUNK_ELSEWHERE) // BLOCK
            for start in range(0, len(gradients), most):
                here = slice(start, start + most)
                yield Piece(
                    gradients[here], weight[start * BLOCK : (start + most) * BLOCK],
                    {name: state[name][here] for name in AVERAGES},
                    {name: state[f"{name}_largest"][here] for name in AVERAGES},
                )  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state with the types that it was saved with; torch's method makes floats of it."""
        super().load_state_dict(state_dict)
        saved = state_dict["state"]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        own = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, own, strict=True):
            for key, value in saved.get(number, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][key] = value.to(parameter.device, copy=True)


def _is_quantized(parameter: Tensor, group: dict[str, Any]) -> bool:
    return bool(group["eight_bit"]) and parameter.numel() >= SMALLEST and parameter.is_contiguous()


def _num_blocks(parameter: Tensor) -> int:
    return -(-parameter.numel() // BLOCK)


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _chunks(pieces: Iterator[Piece], most: int) -> Iterator[list[Piece]]:
    """Pieces together, up to so many blocks."""
    chunk: list[Piece] = []
    for piece in pieces:
        if chunk and sum(len(each.gradient) for each in chunk) + len(piece.gradient) > most:
            yield chunk
            chunk = []
        chunk.append(piece)
    if chunk:
        yield chunk
