"""python -m benchmarks.faults.fault_injection     faults planted in real trainings of every stage: is each caught, by name?

    root=DIR        folder of exports and data; default: a temporary folder in which two steps of each stage are trained
    stages=a,b      only these        faults=a,b
    out=FILE        the results as JSON, default reports/planted.json
    KEY=VALUE       anything else goes to the configuration, as train.py takes it

A fault is planted in the second step of a training with the guards of `conf/callbacks/default.yaml`. It is caught when the log
names it together with the samples of that step, when the step changes no trained weight, and when all weights and buffers are
finite in the end. A broken weight must end the training by its name.
"""

import copy
import logging
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning import Callback, Trainer
from torch import Tensor

from benchmarks.results import write_results
from benchmarks.speed.steps import ROOT, STAGES, WORLD, build, prepare
from callbacks.finite_guard import INPUTS
from muomni.cli.key_value import run_program, split_options

OWN = {"root": "", "stages": (*STAGES, "ocr"), "faults": (), "out": "reports/planted.json"}
STEP = 1  # the faulty step, from 0
GUARDS = ("finite_guard", "gradient_guard")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: what was planted where, whether it was caught, and what was said (or what went wrong)."""

    stage: str
    fault: str
    caught: bool
    said: str


class Plant(Callback):
    """Injects one fault in step STEP and removes it afterwards; a damaged weight stays."""

    said = ""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self.samples: list[str] = []
        self.before: dict[str, Tensor] = {}
        self.changed: list[str] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == STEP:
            self.samples = list(batch.sample_ids)
            self.before = {key: p.detach().clone() for key, p in pl_module.named_parameters() if p.requires_grad}
            self.plant(pl_module, batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == STEP + 1:
            after = dict(pl_module.named_parameters())
            self.changed = [key for key, value in self.before.items() if not torch.equal(value, after[key])]
            while self._undo:
                self._undo.pop()()

    def plant(self, stage: Any, batch: Any) -> None:
        raise TypeError(f"{type(self).__name__} plants nothing")


class Input(Plant):
    """One number of the batch's audio, image or weights."""

    said = "Numerical instability in input"

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def plant(self, stage: Any, batch: Any) -> None:
        inputs = [getattr(batch, name, None) for name in INPUTS]
        target = next(value for value in inputs if value is not None)
        target.view(-1)[0] = self.value


class Weight(Plant):
    """A number of the largest trained weight, for good."""

    said = "skipped steps in a row"

    def plant(self, stage: Any, batch: Any) -> None:
        largest = max((p for p in stage.parameters() if p.requires_grad), key=Tensor.numel)
        largest.data.view(-1)[:: max(1, largest.numel() // 50)] = math.nan


class Loss(Plant):
    """The sum of the losses, multiplied."""

    said = "is not within -1e+06 and 1e+06"

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def plant(self, stage: Any, batch: Any) -> None:
        stage.total_loss = lambda losses: self.factor * type(stage).total_loss(stage, losses)
        self._undo.append(lambda: vars(stage).pop("total_loss"))


class Gradient(Plant):
    """The gradient of the largest trained weight, multiplied."""

    said = "gradient norm"

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def plant(self, stage: Any, batch: Any) -> None:
        largest = max((p for p in stage.parameters() if p.requires_grad), key=Tensor.numel)
        self._undo.append(largest.register_hook(lambda gradient: self.factor * gradient + (self.factor - 1)).remove)


#: Name -> a callback that plants it.
FAULTS: dict[str, Callable[[], Plant]] = {
    "nan_in_input": lambda: Input(math.nan),
    "inf_in_input": lambda: Input(math.inf),
    "nan_in_weight": Weight,
    "nan_in_loss": lambda: Loss(math.nan),
    "inf_in_loss": lambda: Loss(math.inf),
    "huge_loss": lambda: Loss(1e12),
    "nan_in_gradient": lambda: Gradient(math.nan),
    "inf_in_gradient": lambda: Gradient(math.inf),
    "exploding_gradient": lambda: Gradient(1e6),
}


class _Record(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def run_case(cfg: Any, stage: Any, datamodule: Any, fault: str, *, folder: str) -> Outcome:
    """Trains three steps with a fault in the second, then restores the stage."""
    kept = copy.deepcopy(stage.state_dict())
    plant, record = FAULTS[fault](), _Record()
    guards = [instantiate(cfg.callbacks[name], patience=2) for name in GUARDS]
    trainer = Trainer(
        max_steps=STEP + 4, callbacks=[plant, *guards], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, default_root_dir=folder,
        gradient_clip_val=cfg.trainer.gradient_clip_val, use_distributed_sampler=False,
    )  # fmt: skip
    logger = logging.getLogger("callbacks.step_guard")
    logger.addHandler(record)
    try:
        trainer.fit(stage, datamodule=datamodule)
    except RuntimeError as error:
        record.messages.append(str(error))
    finally:
        logger.removeHandler(record)
        state = stage.state_dict()
        broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        stage.load_state_dict(kept)
    return Outcome(cfg.stage.name, fault, *_verdict(fault, plant, record.messages, broken))


def _verdict(fault: str, plant: Plant, messages: list[str], broken: list[str]) -> tuple[bool, str]:
    said = next((message for message in messages if plant.said in message), None)
    if said is None:
        return False, f"silent; the log says: {messages[:2]}"
    if fault == "nan_in_weight":
        named = any("holds NaN=" in message for message in messages)
        return named and "Numerical instability" in messages[0], f"{messages[0]} ... {said}"
    if not plant.samples or plant.samples[0] not in said:
        return False, f"the samples are not named: {said}"
    if plant.changed or broken:
        return False, f"changed {plant.changed[:2]}, broken {broken[:2]}"
    return True, said


def compose_stage(name: str, *, root: str, overrides: tuple[str, ...]) -> tuple[Any, Any, Any]:
    """Configuration, stage and datamodule, whose exports and data lie under `root`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"stage={name}", "budget=ci", f"paths.root={root}", *overrides])
    torch.manual_seed(0)
    return cfg, *build(cfg)


def run_stage(name: str, *, root: str, faults: list[str], overrides: tuple[str, ...] = ()) -> list[Outcome]:
    """All faults in one stage."""
    cfg, stage, datamodule = compose_stage(name, root=root, overrides=overrides)
    return [run_case(cfg, stage, datamodule, fault, folder=root) for fault in faults]


def main(arguments: list[str]) -> None:
    """Runs all cases, prints and writes the results; exit code 1 if a fault was not caught."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options, rest = split_options(arguments, OWN)
    faults = list(options["faults"] or FAULTS)
    root, temporary = prepare(options["root"], "nano")
    overrides = (*(WORLD if temporary else ()), *rest)
    outcomes = []
    for name in options["stages"]:
        for outcome in run_stage(name, root=root, faults=faults, overrides=overrides):
            print(
                f"{outcome.stage:10} {outcome.fault:20} {'caught' if outcome.caught else 'SILENT'}  {outcome.said[:110]}"
            )
            outcomes.append(outcome)
    silent = sum(not outcome.caught for outcome in outcomes)
    print(f"{len(outcomes)} faults planted, {len(outcomes) - silent} caught by name, {silent} silent")
    write_results(options["out"], {"outcomes": [asdict(outcome) for outcome in outcomes]})
    sys.exit(1 if silent else 0)


if __name__ == "__main__":
    run_program(main)
