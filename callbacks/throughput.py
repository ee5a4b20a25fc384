"""Training throughput, model FLOPs utilization, and the share of time spent waiting for data."""

import logging
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from muomni.run.peak_flops import peak_flops

log = logging.getLogger(__name__)


class Throughput(Callback):
    """`samples_per_second`, `tokens_per_second` (frames, for audio, padding included), `images_per_second`,
    `audio_seconds_per_second`, `padding_share` (in percent of the tokens), `data_wait_share` and `mfu` over a logging interval,
    `total_tokens`, `total_flops`, `total_seconds` (without validations) so far; padding and waiting at the end also of the whole
    run (`stage.totals`). Time between batches counts as waiting, but for validations. Several processes: assumes that all hold
    as much as this one.

    `mfu`: operations of the interval (`stage.step_cost`) by what the device could have done in its time
    (muomni/run/peak_flops.py), in percent."""

    def __init__(self) -> None:
        self._since = self._ended = self._waited = 0.0
        self._samples = self._tokens = self._images = self._flops = 0
        self._audio_seconds = 0.0
        self._real: Any = 0
        self._paused = 0.0
        self._peak: float | None = None
        self._run: dict[str, Any] = {"real": 0.0, "tokens": 0, "waited": 0.0, "seconds": 0.0, "flops": 0}
        """Of the whole run, those of an earlier process included."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = self._ended = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation is no part of the interval."""
        paused = time.perf_counter() - self._paused
        self._since, self._ended = self._since + paused, self._ended + paused

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The time since the last batch ended was spent waiting for this one."""
        self._waited += time.perf_counter() - self._ended

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, _: Any, batch: Any, *__: Any) -> None:
        """Count the batch; log and reset once an interval."""
        self._count(pl_module, batch)
        self._ended = time.perf_counter()
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every or self._ended == self._since:
            return
        seconds = self._ended - self._since
        self._add(seconds)
        rates = {"samples": self._samples, "tokens": self._tokens, "images": self._images,
                 "audio_seconds": self._audio_seconds}  # fmt: skip
        metrics = {f"{name}_per_second": trainer.world_size * count / seconds for name, count in rates.items() if count}
        metrics["padding_share"] = 100 * (1 - self._real / self._tokens)
        metrics["data_wait_share"] = self._waited / seconds
        if self._flops:
            metrics["mfu"] = 100 * self._flops / seconds / self._find_peak(trainer, pl_module)
            metrics["total_flops"] = float(trainer.world_size * self._run["flops"])
        metrics["total_tokens"] = float(trainer.world_size * self._run["tokens"])
        metrics["total_seconds"] = self._run["seconds"]
        pl_module.log_dict({f"{pl_module.name}/train/{name}": value for name, value in metrics.items()})
        self._reset()

    def _count(self, pl_module: Any, batch: Any) -> None:
        self._samples += len(batch.sample_ids)
        real, tokens = batch.tokens()
        self._real = self._real + real  # read once an interval: no wait for the device
        self._tokens += tokens
        images = getattr(batch, "images", None)
        self._images += 0 if images is None else len(images)
        frames, rate = getattr(batch, "frame_counts", None), pl_module.mel_frame_rate
        if frames is None and hasattr(batch, "waveform"):  # pieces of one length, all real
            frames = [batch.mel.shape[1]] * len(batch.mel)
        self._audio_seconds += sum(frames) / rate if frames and rate else 0.0
        cost = pl_module.step_cost(batch)
        self._flops += 0 if cost is None else cost.flops

    def _reset(self) -> None:
        self._since, self._waited, self._real, self._audio_seconds = self._ended, 0.0, 0, 0.0
        self._samples = self._tokens = self._images = self._flops = 0

    def _find_peak(self, trainer: Trainer, pl_module: LightningModule) -> float:
        """Of the device, once a run; what that takes counts for no interval."""
        if self._peak is None:
            half = "16" in str(trainer.precision)
            before = time.perf_counter()
            self._peak, source = peak_flops(pl_module.device, half=half)
            self._ended += time.perf_counter() - before
            log.info("stage=%s: mfu is a share of %s", pl_module.name, source)
        return self._peak

    def _add(self, seconds: float) -> None:
        run = self._run
        run["real"], run["tokens"] = run["real"] + self._real, run["tokens"] + self._tokens
        run["flops"] += self._flops
        run["waited"], run["seconds"] = run["waited"] + self._waited, run["seconds"] + seconds

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares of the whole run; also of one that is resumed after its last step, which has no training to end."""
        self._add(self._ended - self._since)
        self._reset()
        run, stage = self._run, pl_module.name
        if not run["tokens"] or not run["seconds"]:
            return
        padding, waited = 100 * (1 - float(run["real"]) / run["tokens"]), run["waited"] / run["seconds"]
        pl_module.totals = {f"{stage}/train/padding_share": padding, f"{stage}/train/data_wait_share": waited}  # type: ignore[assignment]
        log.info("stage=%s: %.1f %% of the tokens were padding, %.1f %% of the time went by waiting for data",
                 stage, padding, 100 * waited)  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Of the whole run, with the steps since the last interval: a resumed run has the totals of one that was not killed."""
        run, seconds = self._run, self._ended - self._since
        return {
            "real": float(run["real"] + self._real),
            "tokens": run["tokens"] + self._tokens,
            "waited": run["waited"] + self._waited,
            "seconds": run["seconds"] + seconds,
            "flops": run["flops"] + self._flops,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._run = {"flops": 0, **state_dict}  # checkpoints of before did not count them
