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
import warnings
from collections.abc import Callable, Iterator
from logging.handlers import BufferingHandler
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback
from torch import Tensor

from benchmarks.faults.outcome import Outcome, report
from benchmarks.stages import ONE_OPTIMIZER, build_stage, build_trainer, compose_config, prepared
from callbacks.finite_guard import INPUTS
from muomni.cli.key_value import run_program, split_options

OWN = {"root": "", "stages": ONE_OPTIMIZER, "faults": (), "out": "reports/planted.json"}
STEP = 1  # the faulty step, from 0
GUARDS = ("finite_guard", "gradient_guard")
#: (stage, batch) -> a function that removes the fault after the step; None: it stays.
Plant = Callable[[Any, Any], Callable[[], object] | None]


def in_input(value: float) -> Plant:
    """One number of the batch's audio, image or weights."""

    def plant(stage: Any, batch: Any) -> None:
        inputs = [getattr(batch, name, None) for name in INPUTS]
        next(tensor for tensor in inputs if tensor is not None).view(-1)[0] = value

    return plant


def _largest(stage: Any) -> Any:
    return max((p for p in stage.parameters() if p.requires_grad), key=Tensor.numel)


def in_weight(stage: Any, batch: Any) -> None:
    """About fifty numbers of the largest trained weight, for good."""
    largest = _largest(stage)
    largest.data.view(-1)[:: max(1, largest.numel() // 50)] = math.nan


def in_loss(factor: float) -> Plant:
    """The sum of the losses, multiplied."""

    def plant(stage: Any, batch: Any) -> Callable[[], object]:
        stage.total_loss = lambda losses: factor * type(stage).total_loss(stage, losses)
        return lambda: vars(stage).pop("total_loss")

    return plant


def in_gradient(factor: float) -> Plant:
    """The gradient of the largest trained weight, multiplied; a gradient of 0 changes too."""
    return lambda stage, _: _largest(stage).register_hook(lambda gradient: factor * gradient + (factor - 1)).remove


BAD_LOSS = "is not within -1e+06 and 1e+06"
#: Name -> what plants it, what the log must say.
FAULTS: dict[str, tuple[Plant, str]] = {
    "nan_in_input": (in_input(math.nan), "Numerical instability in input"),
    "inf_in_input": (in_input(math.inf), "Numerical instability in input"),
    "nan_in_weight": (in_weight, "skipped steps in a row"),
    "nan_in_loss": (in_loss(math.nan), BAD_LOSS),
    "inf_in_loss": (in_loss(math.inf), BAD_LOSS),
    "huge_loss": (in_loss(1e12), BAD_LOSS),
    "nan_in_gradient": (in_gradient(math.nan), "gradient norm"),
    "inf_in_gradient": (in_gradient(math.inf), "gradient norm"),
    "exploding_gradient": (in_gradient(1e6), "gradient norm"),
}


class FaultyStep(Callback):
    """Plants a fault in step STEP and removes it afterwards; notes the samples of the step and the weights that it changes."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.undo: Callable[[], object] | None = None
        self.samples: list[str] = []
        self.before: dict[str, Tensor] = {}
        self.changed: list[str] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == STEP:
            self.samples = list(batch.sample_ids)
            self.before = {key: p.detach().clone() for key, p in pl_module.named_parameters() if p.requires_grad}
            self.undo = self.plant(pl_module, batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == STEP + 1:
            after = dict(pl_module.named_parameters())
            self.changed = [key for key, value in self.before.items() if not torch.equal(value, after[key])]
            if self.undo is not None:
                self.undo()


def run_case(cfg: Any, stage: Any, datamodule: Any, fault: str) -> Outcome:
    """Train a few steps with a fault in the second, then restore the stage."""
    kept = copy.deepcopy(stage.state_dict())
    faulty, record = FaultyStep(FAULTS[fault][0]), BufferingHandler(1000)
    guards = [instantiate(cfg.callbacks[name], patience=2) for name in GUARDS]
    logger, errors = logging.getLogger("callbacks.step_guard"), []
    logger.addHandler(record)
    try:
        build_trainer(cfg, [faulty, *guards], max_steps=STEP + 4).fit(stage, datamodule=datamodule)
    except RuntimeError as error:
        errors = [str(error)]
    finally:
        logger.removeHandler(record)
        state = stage.state_dict()
        broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        stage.load_state_dict(kept)
    messages = [each.getMessage() for each in record.buffer] + errors
    return Outcome(cfg.stage.name, fault, *_verdict(fault, faulty, messages, broken))


def _verdict(fault: str, faulty: FaultyStep, messages: list[str], broken: list[str]) -> tuple[bool, str]:
    said = next((message for message in messages if FAULTS[fault][1] in message), None)
    if said is None:
        return False, f"silent; the log says: {messages[:2]}"
    if fault == "nan_in_weight":
        named = any("holds NaN=" in message for message in messages)
        return named and "Numerical instability" in messages[0], f"{messages[0]} ... {said}"
    if not faulty.samples or faulty.samples[0] not in said:
        return False, f"the samples are not named: {said}"
    if faulty.changed or broken:
        return False, f"changed {faulty.changed[:2]}, broken {broken[:2]}"
    return True, said


def run_stage(name: str, *overrides: str, faults: list[str]) -> Iterator[Outcome]:
    cfg = compose_config(f"stage={name}", *overrides)
    stage, datamodule = build_stage(cfg)
    for fault in faults:
        yield run_case(cfg, stage, datamodule, fault)


def main(arguments: list[str]) -> int:
    """Run all cases, print and write the results; exit code 1 if a fault was not caught."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options, rest = split_options(arguments, OWN)
    faults = list(options["faults"] or FAULTS)
    with prepared(options["root"], rest) as overrides:
        outcomes = (each for name in options["stages"] for each in run_stage(name, *overrides, faults=faults))
        return report(outcomes, options["out"])


if __name__ == "__main__":
    run_program(main)
