"""python -m benchmarks.faults.doctored     faults of trainings that run on regardless: does the doctor name each within 50 steps?

    stages=a,b      default: every stage      faults=a,b: default: all, and healthy runs
    seeds=0,1       default: 0, each fault once with each
    root=DIR        folder of exports and data; default: a temporary folder in which two steps of each stage are trained
    steps=50        of each run               out=FILE     the results as JSON
    KEY=VALUE       anything else goes to the configuration, as train.py takes it (size=tiny vocab_size=1900: the ci world's
                    text has no pieces for more)

Every run has the stage's own options and the doctor of conf/callbacks/default.yaml. A healthy one must raise no alarm; one with a
fault must be told what is wrong. `moved` is what HighRate measures, whose limits are between the healthy runs and those with a
rate ten times as high.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback

from benchmarks.faults.outcome import Outcome, report
from benchmarks.stages import STAGES, build_stage, build_trainer, compose_config, prepared
from muomni.cli.key_value import run_program, split_options

OWN = {"root": "", "stages": STAGES, "faults": (), "steps": 50, "seeds": (0,), "out": "reports/doctored.json"}
HEALTHY = "none"
NEXT_TOKEN = ("thinker", "ocr", "omni_sft")
SPOKEN = ("audio", "codec", "talker", "omni_sft")
#: (stage, datamodule) -> nothing; planted before training.
Plant = Callable[[Any, Any], None]


def nothing(stage: Any, data: Any) -> None:
    """A healthy run."""


class ChangedBatch(Callback):
    """Changes every batch of training."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        self.change = change

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.change(batch)


def each_batch(change: Callable[[Any], None]) -> Plant:
    """Of the collator's batches."""

    def plant(stage: Any, data: Any) -> None:
        stage.planted = ChangedBatch(change)

    return plant


def shifted(by: int) -> Plant:
    """Targets, where a batch has them; characters of a recognizer by their ids. (The Talker's are shifted in the unit tests.)"""

    def change(batch: Any) -> None:
        if hasattr(batch, "targets"):
            batch.targets = batch.targets.roll(by, dims=1)
        else:
            batch.characters = (batch.characters + by).clamp_min(1)

    return each_batch(change)


def lost_codebook(stage: Any, data: Any) -> None:
    """One of the losses is left out."""
    step, name = stage.step, "commitment" if stage.name == "codec" else "codebook_1"
    stage.step = lambda batch: {key: loss for key, loss in step(batch).items() if key != name}


def cut_audio(batch: Any) -> None:
    """Clips end at half of their length."""
    batch.mel_lengths = (batch.mel_lengths // 2).clamp_min(1) if batch.mel_lengths is not None else None
    batch.frame_counts = None if batch.mel_lengths is None else batch.mel_lengths.tolist()


def frozen(stage: Any, data: Any) -> None:
    """The first trained module of the stage that has several parameters."""
    _, module, _ = next(each for each in stage.trained_modules() if each[2])
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters[: len(parameters) // 2]:
        parameter.requires_grad_(False)


def one_class(batch: Any) -> None:
    """Captions, texts or answers are one and the same."""
    for name in ("captions", "texts", "answers"):
        if hasattr(batch, name):
            setattr(batch, name, ["red"] * len(getattr(batch, name)))
    if not any(hasattr(batch, name) for name in ("captions", "texts", "answers")):  # documents
        batch.ids = torch.where(batch.mask.segment_ids > 0, 9, batch.ids)
        batch.mask = None
        batch.lengths = torch.ones_like(batch.lengths)


def missed(stage: Any, data: Any) -> None:
    """The first parameter of the first group."""
    factory = stage.optimizer_factory

    def forgetful(groups: list[dict[str, Any]]) -> Any:
        groups[0]["params"] = groups[0]["params"][1:]
        return factory(groups)

    stage.optimizer_factory = forgetful


#: Name -> what plants it, what the alarm must say, and in which stages it can happen.
FAULTS: dict[str, tuple[Plant, str, Sequence[str]]] = {
    HEALTHY: (nothing, "", STAGES),
    "labels_late": (shifted(1), "labels are shifted by one", (*NEXT_TOKEN, "audio")),
    "labels_early": (shifted(-1), "labels are shifted by one", (*NEXT_TOKEN, "audio")),
    "lost_codebook": (lost_codebook, "a codebook is not taught", ("codec", "talker")),
    "cut_audio": (each_batch(cut_audio), "audio is cut off", SPOKEN),
    "high_rate": (nothing, "the learning rate is too high", STAGES),
    "frozen": (frozen, "should train and is frozen", STAGES),
    "one_class": (each_batch(one_class), "a data set of one class", ("thinker", "vision", "audio", "talker", "omni_sft", "ocr")),
    "missed_parameter": (missed, "the optimizer misses", STAGES),
}  # fmt: skip


def run_case(cfg: Any, fault: str, *, steps: int, seed: int) -> Outcome:
    """Train, and look at what the doctor has said."""
    plant, said, _ = FAULTS[fault]
    cfg = copy.deepcopy(cfg)
    cfg.seed = seed
    cfg.trainer.max_steps = 10 * steps  # of the schedule: the rate does not fall yet
    if fault == "high_rate":
        cfg.optim.lr *= 10
    stage, datamodule = build_stage(cfg)
    plant(stage, datamodule)
    doctor = instantiate(cfg.callbacks.doctor, _convert_="all")
    record = Alarms()
    logger = logging.getLogger("callbacks.doctor")
    logger.addHandler(record)
    planted = [stage.planted] if hasattr(stage, "planted") else []
    try:
        build_trainer(cfg, [*planted, doctor], max_steps=steps).fit(stage, datamodule=datamodule)
    finally:
        logger.removeHandler(record)
    moved = doctor.symptoms["high_rate"].moved
    what = f"seed {seed}, moved {moved:.2f}" if moved is not None else f"seed {seed}"
    alarms = record.messages
    if fault == HEALTHY:
        return Outcome(cfg.stage.name, fault, not alarms, "; ".join([what, *alarms]))
    named = next((message for message in alarms if said in message), None)
    others = f" ({len(alarms) - 1} more)" if len(alarms) > 1 else ""
    return Outcome(cfg.stage.name, fault, named is not None, f"{what}: {named or alarms}{others}")


class Alarms(logging.Handler):
    """What the doctor says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage().removeprefix("doctor: "))


def run_cases(options: dict[str, Any], overrides: list[str]) -> Iterator[Outcome]:
    for name in options["stages"]:
        cfg = compose_config(f"stage={name}", *overrides)
        for fault in options["faults"] or FAULTS:
            if name in FAULTS[fault][2]:
                for seed in options["seeds"]:
                    yield run_case(cfg, fault, steps=options["steps"], seed=int(seed))


def main(arguments: list[str]) -> int:
    """Run all cases, print and write the results; exit code 1 if a fault was not named or a healthy run alarmed."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options, rest = split_options(arguments, OWN)
    with prepared(options["root"], rest) as overrides:
        return report(run_cases(options, overrides), options["out"])


if __name__ == "__main__":
    run_program(main)
