"""Training throughput, and the share of time spent waiting for data."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """`samples_per_second`, `tokens_per_second` (frames, for audio, padding included), `padding_share` (in percent of them)
    and `data_wait_share` over a logging interval. Several processes: assumes that all hold as much as this one."""

    def __init__(self) -> None:
        self._since = self._ended = self._waited = 0.0
        self._samples = self._tokens = 0
        self._real: Any = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = self._ended = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The time since the last batch ended was spent waiting for this one."""
        self._waited += time.perf_counter() - self._ended

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, _: Any, batch: Any, *__: Any) -> None:
        """Count the batch; log and reset once an interval."""
        self._samples += len(batch.sample_ids)
        real, tokens = batch.tokens()
        self._real = self._real + real  # read once an interval: no wait for the device
        self._tokens += tokens
        self._ended = time.perf_counter()
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every or self._ended == self._since:
            return
        seconds = self._ended - self._since
        prefix = f"{pl_module.name}/train"
        pl_module.log_dict(
            {
                f"{prefix}/samples_per_second": trainer.world_size * self._samples / seconds,
                f"{prefix}/tokens_per_second": trainer.world_size * self._tokens / seconds,
                f"{prefix}/padding_share": 100 * (1 - self._real / self._tokens),
                f"{prefix}/data_wait_share": self._waited / seconds,
            }
        )
        self._since, self._samples, self._tokens, self._real, self._waited = self._ended, 0, 0, 0, 0.0
