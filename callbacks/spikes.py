"""Spikes of the loss: detected by comparison with the previous steps, and saved with the batch that caused them.

    <run>/spikes/step-000123.pt            the batch, its losses and the usual loss (plain data: loads with weights_only)
    python -m callbacks.spikes FILE        shows it
    python train.py stage=... task=replay spike=FILE [ckpt=EXPORT]    recomputes its losses with the weights of an export

The loss is copied to the host asynchronously and checked one batch later, so that nothing waits for it.

Not Lightning's SpikeDetection: it reads the loss and runs a barrier at each step, and ends the run with an index, not the batch.
"""

import statistics
import sys
from collections import deque
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni import batch as batches
from muomni.checkpoints.safe_load import load_data

LEAST = 30  # losses needed before a spike can be told from noise
BURST = 3  # steps; a spike so soon after another counts as the same one, since the first batch caused it
MAD = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


class Spikes:
    """Keeps batches whose loss is not finite, or over the median of the last ones by more than `deviations` of theirs.

    Args:
        window: number of previous losses compared. deviations: robust standard deviations (by the median absolute deviation; at
            least a twentieth of the median counts as one, and a thirtieth of what the loss was at first: clips that are known by
            heart have losses near zero, and one of a hundred is a hundred times as large), and over the largest of them by a
            quarter: the shortest clips of an epoch may have twice the loss of all others. keep: maximum number of saved batches a
            run.
    """

    def __init__(self, *, window: int, deviations: float, keep: int) -> None:
        self.deviations, self.keep = deviations, keep
        self.saved = 0
        self.first: float | None = None
        """The median of the first losses of the training."""
        self._spiked: int | None = None  # the last step that did
        self._usual: deque[float] = deque(maxlen=window)
        self._last: tuple[dict[str, Tensor], Any, int, torch.cuda.Event | None] | None = None

    def look(self, stage: Any, batch: Any, *, step: int, rank: int, folder: Path) -> str | None:
        """Check the previous batch and store this one. Returns a message if a spike starts there, else None."""
        if "loss" not in stage.losses:
            return None
        host = {name: loss.to("cpu", non_blocking=True) for name, loss in stage.losses.items()}
        copied = None
        if stage.device.type == "cuda":
            copied = torch.cuda.Event()
            copied.record()
        last, self._last = self._last, (host, batch, step, copied)
        if last is None:
            return None
        *seen, copied = last
        if copied is not None:
            copied.synchronize()
        return self._judge(stage.name, *seen, rank=rank, folder=folder)

    def forget(self) -> None:
        """Clear the window of losses: the samples change, so that past losses are no reference any more."""
        self._usual.clear()

    def _judge(
        self, stage: str, losses: dict[str, Tensor], batch: Any, step: int, *, rank: int, folder: Path
    ) -> str | None:
        loss = float(losses["loss"])
        finite = loss - loss == 0
        usual = statistics.median(self._usual) if self._usual else loss
        limit = float("inf")
        if len(self._usual) >= LEAST:
            spread = MAD * statistics.median(abs(other - usual) for other in self._usual)
            self.first = usual if self.first is None else self.first
            limit = usual + self.deviations * max(spread, abs(usual) / 20, abs(self.first) / 30)
            limit = max(limit, max(self._usual) + abs(max(self._usual)) / 4)
        if finite:
            self._usual.append(loss)
            if loss <= limit:
                return None
        before, self._spiked = self._spiked, step
        if before is not None and step - before <= BURST:
            return None
        said = f"step {step}: loss {loss:.4g} where {usual:.4g} is usual"
        if self.saved >= self.keep:
            return f"{said}; samples {', '.join(batch.sample_ids[:4])} ({self.keep} batches are saved already)"
        self.saved += 1
        path = folder / f"step-{step:06d}{f'-rank{rank}' if rank else ''}.pt"
        save_spike(path, batch, stage=stage, step=step, losses={k: float(v) for k, v in losses.items()}, usual=usual)
        return (
            f"{said}; its batch is in {path} (python -m callbacks.spikes {path}). Look at its samples; lower optim.lr or "
            "trainer.gradient_clip_val where spikes come often"
        )


def save_spike(path: Path, batch: Any, *, stage: str, step: int, losses: dict[str, float], usual: float) -> None:
    """Write a batch with its stage, step and losses."""
    content = {field.name: _plain(getattr(batch, field.name)) for field in fields(batch)}
    document = {"stage": stage, "step": step, "losses": losses, "usual": usual}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(document | {"kind": type(batch).__name__, "batch": content}, path)


def _plain(value: Any) -> Any:
    if isinstance(value, batches.SegmentMask):  # without its runs, which are found again
        return {name: _plain(getattr(value, name)) for name in ("segment_ids", "branch_ids", "positions")}
    if isinstance(value, batches.SpeechBatch):  # references of another
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value.detach().cpu() if isinstance(value, Tensor) else value


def load_spike(path: Path | str) -> tuple[Any, dict[str, Any]]:
    """The batch, on the CPU, and its metadata: stage, step, losses, usual. Raises ValueError naming the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; a run saves its spikes under runs/<stage>/<time>/spikes")
    try:
        document = load_data(Path(path))
        types: dict[str, Any] = {name: each for name, each in vars(batches).items() if is_dataclass(each)}
        content = document.pop("batch")
        if content.get("mask") is not None:
            content["mask"] = batches.SegmentMask.with_runs(**content["mask"])
        if content.get("references") is not None:
            content["references"] = batches.SpeechBatch(**content["references"])
        batch = types[document.pop("kind")](**content)
    except Exception as error:
        raise ValueError(f"{path}: not a saved spike ({' '.join(str(error).split())[:300]})") from error
    return batch, document


def describe(batch: Any, about: dict[str, Any]) -> str:
    """A saved spike in a few lines: losses, shapes and ranges of its tensors, and its samples."""
    lines = [f"stage={about['stage']} step {about['step']}: usual loss {about['usual']:.4g}"]
    lines += [f"  {name} = {value:.6g}" for name, value in about["losses"].items()]
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.numel():
            low, high = value.min().item(), value.max().item()
            lines.append(f"  {field.name} {tuple(value.shape)} {str(value.dtype)[6:]} from {low:.6g} to {high:.6g}")
    words = next((getattr(batch, name) for name in ("texts", "captions", "answers") if hasattr(batch, name)), None)
    for row, name in enumerate(batch.sample_ids):
        lines.append(f"  {name}" + (f"  {words[row]!r}" if words else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m callbacks.spikes runs/STAGE/TIME/spikes/STEP.pt")
    try:
        print(describe(*load_spike(sys.argv[1])))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
