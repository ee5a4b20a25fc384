"""What every stage shares: the weighted sum of named losses, logging, optimizers, and metrics by split."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from muomni.distributed import collectives
from muomni.evaluation.base import Evaluator, State
from muomni.nn.flops import Cost
from muomni.nn.transformer import Transformer
from muomni.stages.accumulation import SAMPLES, Losses, split_means, window_shares
from muomni.stages.resume import ResumableStage
from muomni.stages.training_options import TrainingOptions

log = logging.getLogger(__name__)


class Stage(ResumableStage):
    """A stage of training: what is optimised. What it is measured by is its evaluator's.

    A subclass defines `name`, `step`, `loss_names` and `target_counts`. It hands over its model under its own name, with its
    metadata and tokenizer; where that is not all, it overrides `export_modules`, `export_metadata` or `export_files`.

    Args:
        training: see training_options.py. model: what is trained. evaluator: of this model (muomni/evaluation).
        metadata: of the export. tokenizer: a file for the export.
    """

    name: ClassVar[str]
    #: Of the losses that `step` may return; none: not known.
    loss_names: tuple[str, ...] = ()
    #: Whether `step` smooths its targets by `smoothing`.
    smooths_labels: ClassVar[bool] = False

    def __init__(
        self,
        training: TrainingOptions,
        *,
        model: nn.Module,
        evaluator: Evaluator,
        metadata: Mapping[str, Any] | None = None,
        tokenizer: Path | None = None,
    ) -> None:
        super().__init__(training, model=model, metadata=metadata or {}, tokenizer=tokenizer)
        self.evaluator = evaluator
        self.loss_weights = dict(training.loss_weights)
        self.compile_model, self.activation_checkpointing = training.compile_model, training.activation_checkpointing
        self.layer_drop, self.label_smoothing = training.layer_drop, training.label_smoothing
        if self.label_smoothing and not self.smooths_labels:
            raise ValueError(f"label_smoothing={self.label_smoothing}: stage={self.name} has no targets to smooth: 0")
        #: Of the test splits: metrics by their full names, and inputs with answers and truths, split by split.
        self.results: dict[str, float] = {}
        self.examples: list[dict[str, Any]] = []
        #: Of a training that has ended, for metrics.json: shares of padding and of waiting (callbacks/throughput.py).
        self.totals: dict[str, float] = {}
        #: Of the last training batch: `loss` (the weighted sum, before any scaling) and the named ones. For callbacks.
        self.losses: dict[str, Tensor] = {}
        #: Of the step's gradients before clipping, once a callback has measured it.
        self.gradient_norm: Tensor | None = None
        self._split: str | None = None
        self._states: dict[str, State] = {}
        self._held_out: list[tuple[Losses, Mapping[str, Any]]] = []
        self._held_out_sets: list[str] = []
        self._window: dict[str, Tensor] = {}

    # --- what a subclass defines ---------------------------------------------------------------------------------

    def step(self, batch: Any) -> dict[str, Tensor]:
        """Named scalar losses of a batch."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def target_counts(self, batch: Any) -> dict[str, Any]:
        """Over how many targets (or of what weight) each named loss of a batch is a mean, known from the batch alone: by it
        batches are weighed, those of a held-out split and those that share a step. A loss that is not named counts samples."""
        return {}

    def step_cost(self, batch: Any) -> Cost | None:
        """Operations of a training step on a batch, from its shapes alone (nn/flops.py); None: not known, no MFU is logged."""
        return None

    @property
    def mel_frame_rate(self) -> float | None:
        """Mel frames a second, where the stage's metadata names a spectrogram."""
        mel = self.metadata.get("mel") or self.metadata.get("codec_mel") or {}
        return mel["sample_rate"] / mel["hop"] if {"sample_rate", "hop"} <= mel.keys() else None

    def compiled_modules(self) -> list[nn.Module]:
        """Modules that `compile_parts` compiles."""
        return self.transformer_blocks()

    def separately_clipped(self) -> list[nn.Module]:
        """Modules whose gradients are clipped each by their own norm; none: all together by one."""
        return []

    # --- what they share -----------------------------------------------------------------------------------------

    def check_loss_weights(self) -> None:
        """Raise ValueError for the weight of a loss that there is not, or one that is no number."""
        for name, weight in self.loss_weights.items():
            if self.loss_names and name not in self.loss_names:
                known = ", ".join(self.loss_names)
                raise ValueError(
                    f"module.training.loss_weights.{name}: stage={self.name} has no such loss; it has {known}"
                )
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ValueError(f"module.training.loss_weights.{name}={weight}: a number is needed")

    def setup(self, stage: str) -> None:
        """Freeze, compile and checkpoint activations as the options say; evaluation alone does none of it."""
        if stage != "fit":
            return
        self.freeze_modules()
        transformers = [module for module in self.modules() if isinstance(module, Transformer)]
        if self.activation_checkpointing and not transformers:
            raise ValueError(f"stage={self.name} has no transformer whose activations could be checkpointed")
        if self.layer_drop and not transformers:
            raise ValueError(f"layer_drop={self.layer_drop}: stage={self.name} has no transformer: 0")
        for transformer in transformers:
            transformer.recompute, transformer.layer_drop = self.activation_checkpointing, self.layer_drop
        if self.compile_model:
            self.compile_parts()

    def compile_parts(self) -> None:
        """Compile in place (`module.compile()` renames no key of the state)."""
        modules = self.compiled_modules()
        if not modules:
            raise ValueError(f"stage={self.name} has nothing to compile: compile=false")
        for module in modules:
            module.compile()

    @property
    def smoothing(self) -> float:
        """Of the labels; a held-out loss has none."""
        return self.label_smoothing if self.training else 0.0

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of named losses."""
        total = torch.zeros((), device=self.device)
        for name, loss in losses.items():
            total = total + self.loss_weights.get(name, 1.0) * loss
        return total

    def counts(self, batch: Any) -> dict[str, Any]:
        """`target_counts`, and the number of samples, which is what other losses are means over."""
        return {SAMPLES: len(batch.sample_ids), **self.target_counts(batch)}

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Return the weighted sum of a batch's losses, or its share of the optimizer step's; log each by name."""
        with collectives.synced_step():
            losses = self.step(batch)
            total = objective = self.total_loss(losses)
            window = getattr(batch, "window", None)
            logged: Mapping[str, Tensor] = losses
            if window is not None:
                shares = window_shares(window, losses)
                logged = {name: shares[name] * loss for name, loss in losses.items()}
                objective = self.total_loss(logged) * self.trainer.accumulate_grad_batches  # Lightning divides by it
                before = {} if window.index == 0 else self._window
                self._window = logged = {name: before.get(name, 0.0) + x.detach() for name, x in logged.items()}
            if collectives.world_size() > 1:
                objective = self.add_zero_grad_term(objective, batch)
            self.losses = {"loss": total.detach()} | {name: loss.detach() for name, loss in losses.items()}
            self._log_losses(logged, len(batch.sample_ids))
        return objective

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """The same losses on held-out data; each process has batches of its own."""
        if self.is_spare("val"):
            return
        losses = {name: loss.detach() for name, loss in self.step(batch).items()}
        self._held_out.append((losses, self.counts(batch)))
        sets = getattr(self.trainer.datamodule, "val_sets", None)  # type: ignore[attr-defined]
        if sets:
            self._held_out_sets.append(sets[batch_index])

    def on_validation_epoch_start(self) -> None:
        """Nothing measured yet."""
        self._held_out, self._held_out_sets = [], []

    def on_validation_epoch_end(self) -> None:
        """Means over the targets of all batches of all processes; of several validation sets also of each (`val_NAME`)."""
        own = [[{name: float(x) for name, x in each.items()} for each in batch] for batch in self._held_out]
        batches = [batch for each in collectives.all_gather_object(own) for batch in each]  # type: ignore[attr-defined]
        sets = [name for each in collectives.all_gather_object(self._held_out_sets) for name in each]  # type: ignore[attr-defined]
        self._log_held_out("val", batches)
        for name in dict.fromkeys(sets):
            self._log_held_out(f"val_{name}", [batch for batch, of in zip(batches, sets, strict=True) if of == name])

    def _log_held_out(self, split: str, batches: list[Any]) -> None:
        means = split_means(batches)
        self.log_dict(self._named(split, {name: torch.tensor(mean) for name, mean in means.items()}))

    def _named(self, split: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        named = {f"{self.name}/{split}/loss": self.total_loss(losses).detach()}
        if len(losses) > 1:
            named |= {f"{self.name}/{split}/{name}": loss.detach() for name, loss in losses.items()}
        return named

    def _log_losses(self, losses: Mapping[str, Tensor], samples: int) -> None:
        named = self._named("train", losses)
        if collectives.world_size() > 1:  # the average over ranks is the whole batch's
            total = collectives.all_reduce_sum(torch.stack([value.float() for value in named.values()]))
            named = dict(zip(named, (total / collectives.world_size()).unbind(), strict=True))
        self.log_dict(named, batch_size=samples)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip; the norm is not measured again where a guard has done so (one pass over all gradients)."""
        norm, self.gradient_norm = self.gradient_norm, None
        separate = self.separately_clipped()
        if separate and gradient_clip_val is not None and gradient_clip_algorithm != "value":
            for module in separate:
                nn.utils.clip_grad_norm_(module.parameters(), gradient_clip_val)
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        sharded = any(isinstance(parameter, DTensor) for parameter in parameters)
        if norm is None or gradient_clip_val is None or gradient_clip_algorithm == "value" or sharded:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def on_test_start(self) -> None:
        """Forget earlier results."""
        self.results, self.examples = {}, []
        self._split, self._states = None, {}

    def test_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Measure; loaders come one after the other, one a split."""
        split = self.trainer.datamodule.test_splits[dataloader_idx]  # type: ignore[attr-defined]
        if self.is_spare(f"test/{split}"):
            return
        # In float32, as inference computes: in bfloat16 the best of many is often a tie.
        with torch.autocast(self.device.type, enabled=False):
            if split != self._split:
                self._close_split()
                self._split = split
                self.evaluator.reset(split)
            self.evaluator.update(batch)

    def on_test_epoch_end(self) -> None:
        """Close the last split, merge what several processes gathered, and log all metrics."""
        self._close_split()
        if collectives.num_processes() > 1:
            self._merge_splits(self.trainer.datamodule.test_splits)  # type: ignore[attr-defined]
        self.log_dict(self.results, rank_zero_only=True)

    def _close_split(self) -> None:
        """Compute the split's metrics; of several processes each puts its state aside, since not all may have a share."""
        if self._split is not None:
            if collectives.num_processes() > 1:
                self._states[self._split] = self.evaluator.state
            else:
                self._compute(self._split)
            self._split = None

    def _compute(self, split: str) -> None:
        for metric, value in self.evaluator.compute().items():
            if math.isfinite(value):
                self.results[f"{self.name}/{split}/{metric}"] = float(value)
            else:
                log.warning(
                    "%s/%s/%s is %s and left out: the split holds nothing to measure it by, or the outputs are not finite",
                    self.name, split, metric, value,
                )  # fmt: skip
        self.examples += self.evaluator.examples

    def _merge_splits(self, splits: list[str]) -> None:
        for split in splits:
            gathered = collectives.all_gather_object(self._states.pop(split, None))
            states = [state for state in gathered if state is not None]
            if states:
                self.evaluator.reset(split)
                for state in states:
                    self.evaluator.merge(state)
                self._compute(split)
