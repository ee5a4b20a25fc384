"""What a stage hands over, what a run resumes from, and by which options it continues: those of this command."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from muomni.checkpoints.export import check_same, first_broken
from muomni.checkpoints.single_file import describe_for_checkpoint
from muomni.frontends.text_form import form_metadata
from muomni.frontends.tokenizer import export_name
from muomni.optim.groups import parameter_groups
from muomni.optim.regroup import regroup
from muomni.optim.schedule import rest_until
from muomni.stages.adapters import Adapter
from muomni.stages.distributed_stage import DistributedStage
from muomni.stages.training_options import TrainingOptions

log = logging.getLogger(__name__)


class ResumableStage(DistributedStage):
    """The base of `Stage`: exports, checkpoints and the optimizer, which they belong to."""

    name: ClassVar[str]

    def __init__(
        self, training: TrainingOptions, *, model: nn.Module, metadata: Mapping[str, Any], tokenizer: Path | None
    ) -> None:
        super().__init__()
        self.model, self.metadata = model, dict(metadata)
        if training.text_form is not None:
            self.metadata["text"] = form_metadata(training.text_form)
        self.tokenizer = None if tokenizer is None else Path(tokenizer)
        self.optimizer_factory, self.schedule_factory = training.optimizer, training.schedule
        self.weight_decay = training.weight_decay
        #: What `Adapter.apply` has put into the stage, and the parameters of adapted modules that it has frozen.
        self.adapter: Adapter | None = None
        self.frozen_parameters: list[nn.Parameter] = []
        self._frozen: list[nn.Module] = []
        self._group_options: list[dict[str, Any]] = []
        self._resumed = False

    # --- what a subclass may define ------------------------------------------------------------------------------

    def export_modules(self) -> dict[str, nn.Module]:
        """Modules of the export folder, each registered (models/registry.py); by default the model, if it is."""
        return {self.name: self.model} if hasattr(self.model, "architecture") else {}

    def bundled_modules(self) -> dict[str, nn.Module]:
        """Modules of an earlier stage's export that go into this one's as they are, loaded when it is written."""
        return {}

    def export_metadata(self) -> dict[str, Any]:
        """What a later stage must agree with: frontends and fingerprints, plain data, and the model's own characters."""
        own = getattr(self.model, "characters", None)
        return {"stage": self.name, **self.metadata, **({} if own is None else {"characters": own})}

    def export_files(self) -> dict[str, Path]:
        """Files copied into the export: name -> path."""
        return {} if self.tokenizer is None else {export_name(self.tokenizer): self.tokenizer}

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        """(name, module, learning-rate factor) of what is trained; frozen parameters inside are left out. A factor of 0
        freezes."""
        return [(self.name, self, 1.0)]

    def cannot_average(self) -> str | None:
        """Why the mean of this stage's weights at several steps makes no sense; None where it does."""
        return None

    # --- what they share -----------------------------------------------------------------------------------------

    def keep_frozen(self, module: nn.Module) -> None:
        """Never train a module, and keep it in evaluation mode."""
        self._frozen.append(module.requires_grad_(False))

    @property
    def frozen_modules(self) -> list[nn.Module]:
        """What `keep_frozen` has got."""
        return list(self._frozen)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, except what is frozen."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def freeze_modules(self) -> None:
        """What has a rate of 0 learns nothing: no gradient, no weight decay."""
        for _, module, rate in self.trained_modules():
            if not rate:
                module.requires_grad_(False)

    def _new_optimizer(self) -> Optimizer:
        return self.optimizer_factory(parameter_groups(self.trained_modules(), weight_decay=self.weight_decay))

    def configure_optimizers(self) -> Any:
        """One optimizer over all groups, one schedule by step."""
        optimizer = self._new_optimizer()
        self._group_options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        scheduler = self.schedule_factory(optimizer)
        if self.adapter is not None and self.adapter.start_step:
            assert isinstance(scheduler, LambdaLR), "adapter.start_step needs a schedule of muomni/optim/schedule.py"
            rest_until(scheduler, self.adapter.start_step, suffix="/adapters")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """A resumed run continues by the options of this command, not by those in its checkpoint."""
        if self._resumed:
            changed = apply_options(self.trainer.optimizers[0], self.lr_schedulers(), self._group_options)
            if changed:
                log.info("going on with this command's options: %s", ", ".join(changed))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run must agree with, and what the checkpoint holds, so that inference loads it as it loads an
        export. Refuse to save what is broken: the last good checkpoint stays."""
        tensors = dict(self.state_dict())
        for optimizer in checkpoint.get("optimizer_states", []):
            # Rank 0 alone has a state where processes share the model.
            for number, state in optimizer.get("state", {}).items():
                tensors |= {f"optimizer.{number}.{key}": v for key, v in state.items() if isinstance(v, Tensor)}
        broken = first_broken(tensors)
        if broken is not None:
            raise ValueError(
                f"step {checkpoint['global_step']}: {broken}; a broken state is not saved, the last good checkpoint stays: go "
                "on from it with resume=FILE, and with a lower optim.lr or trainer.precision=32-true"
            )
        modules = self.export_modules() | self.bundled_modules()
        tokenizer = None if self.tokenizer is None else self.tokenizer.read_bytes()
        checkpoint["export"] = describe_for_checkpoint(self, modules, self.export_metadata(), tokenizer)
        if self.adapter is not None:
            checkpoint["export"]["adapter"] = self.adapter.metadata()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Tokenizer, frontends and codec must be those that the checkpoint was trained with, and what is trained, by which
        optimizer, too: its moments go on."""
        if "export" not in checkpoint:
            raise ValueError(
                "the checkpoint names no tokenizer, frontends and codec; an older version made it: resume=never"
            )
        where = f"checkpoint of step {checkpoint['global_step']}"
        facts, remedy = checkpoint["export"]["document"]["facts"], "resume=never begins again"
        check_same(facts, self.export_metadata(), where=where, remedy=remedy)
        adapter = None if self.adapter is None else self.adapter.metadata()
        check_same(checkpoint["export"], {"adapter": adapter}, where=where, remedy=remedy)
        regroup(checkpoint, [(name, module, rate) for name, module, rate in self.trained_modules() if rate])
        for state in checkpoint.get("optimizer_states", []):
            was, now = _by_optimizer(state.get("param_groups", [])), _by_optimizer(self._new_optimizer().param_groups)
            if was and was != now:
                raise ValueError(
                    f"{where}: it trained {', '.join(was)}, this run trains {', '.join(now)}: the moments of one optimizer do "
                    "not fit another; give optim= and the rates as they were, or resume=never begins again"
                )
        self._resumed = True


def _by_optimizer(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    def optimizer(group: Mapping[str, Any]) -> str:
        return group.get("optimizer") or ("Muon" if group.get("muon") else "AdamW")

    return [f"{group.get('name', 'all')} by {optimizer(group)}" for group in groups]


def apply_options(optimizer: Optimizer, scheduler: Any, options_by_group: Sequence[Mapping[str, Any]]) -> list[str]:
    """Put the options of a new optimizer (`options_by_group`) into one whose state was loaded: rates, betas, weight decay.
    The rate is then what the schedule makes of it at this step. Returns what was changed, in words."""
    changed: dict[str, None] = {}
    for group, options in zip(optimizer.param_groups, options_by_group, strict=True):
        before = {**group, "lr": group.get("initial_lr", group["lr"])}
        for key in ("lr", "betas", "momentum", "weight_decay"):
            if key in options and options[key] != before.get(key):
                changed[f"{key} {options[key]} (was {before.get(key)})"] = None
        now = group["lr"] if options["lr"] == before["lr"] else group["lr"] * options["lr"] / before["lr"]
        group.update(options, lr=now, initial_lr=options["lr"])
    scheduler.base_lrs = [options["lr"] for options in options_by_group]
    if isinstance(scheduler, LambdaLR):  # whose own options may be others, too
        for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            group["lr"] = base * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
    return list(changed)


def check_lr_multipliers(multipliers: Mapping[str, float], *, known: Sequence[str]) -> None:
    """Raise ValueError for learning-rate factors of what there is not, missing ones, and those below 0."""
    if set(multipliers) != set(known):
        raise ValueError(f"module.lr_multipliers has {', '.join(multipliers)}; they are {', '.join(known)}")
    for name, rate in multipliers.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate >= 0:
            raise ValueError(
                f"module.lr_multipliers.{name}={rate}: a factor of the learning rate, at least 0; 0 freezes"
            )
