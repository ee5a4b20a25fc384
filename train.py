"""Train and measure a stage:  python train.py stage=omni_sft     (`ls conf/*` is the vocabulary)."""

import functools
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the imports below take seconds
    from muomni.cli import help

    help.begin("train")

import hydra
import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from omegaconf import DictConfig, OmegaConf

from callbacks.atomic_checkpoints import AtomicCheckpointIO
from callbacks.loggers import close_loggers, log_files, make_loggers
from callbacks.spikes import describe, load_spike
from callbacks.validation_steps import count_in_steps
from datamodules.check.plan import make_plan
from datamodules.check.quick import log_quick_findings
from datamodules.fault_tolerant_loader import named_deaths
from datamodules.fingerprint import digests
from datamodules.sources import resolve_sources
from datamodules.tokenizer_cache import pieces_of
from muomni.checkpoints.export import save_export
from muomni.cli.ablations import check_tag, separate_exports
from muomni.cli.errors import CONF, one_line, one_line_errors, run_main
from muomni.cli.known_warnings import silence_known_warnings
from muomni.cli.option_rules import count_steps, validate
from muomni.distributed import rendezvous
from muomni.run import dry_run, forecast, monitors, pretrained_encoders, signals, stage_graph
from muomni.run.conditioning import settle_conditioning, tells_states
from muomni.run.hardware import best_precision
from muomni.run.identity import identities_of_0_1, identity, is_done, origins, with_origins
from muomni.run.initial_weights import begin, follow_export, follow_trained, load_into
from muomni.run.pretrained import settle_codec, settle_thinker
from muomni.run.run_folder import RunFolder, measuring, remove_if_empty, write_metrics
from muomni.run.sweeps import apart, keep_best, mark_failed, score
from muomni.stages import adapters

log = logging.getLogger(__name__)


def run(cfg: DictConfig, *, output: Path, overrides: list[str], sweep: Path | None = None) -> dict[str, float]:
    """Run the task of a configuration in `output`, as a job of the sweep in `sweep` if given; return the test metrics."""
    settle(cfg, overrides)
    if cfg.dry_run:
        overrides, output = dry_run.redirect(cfg, overrides, conf=CONF), Path(cfg.paths.output)
    ablated = separate_exports(cfg, overrides, handed_on=stage_graph.shared_overrides(overrides, ablated=True))
    check_tag(cfg, ablated, own=cfg.task == "fit" and sweep is None)  # the jobs of a sweep may share a tag
    torch.set_float32_matmul_precision("high")
    export, runs = Path(cfg.paths.exports[cfg.stage.name]), Path(cfg.paths.runs) / cfg.stage.name
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    metadata = facts_of(cfg, plain, ablated)
    former = identities_of_0_1(runs, plain) if cfg.task == "fit" else set()
    if is_done(cfg, export, metadata, former):
        return {}
    with rendezvous.rank_zero_first():
        sources = prepare(cfg, overrides, ablated)
    trained, folder = Path(cfg.ckpt or export), RunFolder(output)
    if cfg.task == "fit" and not cfg.dry_run:
        folder = training_folder(cfg, output, metadata, runs=runs, former=former)
    follow_trained(cfg, trained, overrides)
    cfg.paths.output = str(folder.path)
    lightning.seed_everything(cfg.seed, verbose=False)
    datamodule = make_data(cfg, sources)
    cfg.characters = getattr(datamodule, "characters", None)  # may be trained from the texts

    def make_stage() -> Any:  # a new one: the result of `instantiate` holds a model, which two calls of it would share
        stage = instantiate(cfg.module, _convert_="all")(**datamodule.metadata())
        stage.check_loss_weights()
        return begin(cfg, stage)

    stage = make_stage()
    if rendezvous.rank():  # different noise in each process's share of a batch
        lightning.seed_everything(cfg.seed + rendezvous.rank(), verbose=False)
    if folder.checkpoint is not None:  # refused, where it must be, before loggers open a run
        check_checkpoint(folder.checkpoint, datamodule, stage, named=cfg.resume != "auto")
    trainer = build_trainer(cfg, folder.path)
    kept, totals, losses = None, {}, {}
    with named_deaths(datamodule.readers):
        if cfg.task == "fit":
            trainer.fit(stage, datamodule=datamodule, ckpt_path=folder.checkpoint)
            totals, kept = stage.totals, export if sweep is None else folder.path / "export"
            stage = hand_over(stage, trainer, kept, metadata, fresh=make_stage)
            if cfg.dry_run:  # the export is for the stage that is built of it, and goes with the rest
                dry_run.log_total(cfg.stage.name)
                return {}
            log_files(trainer.loggers, kept, name=f"{stage.name}-{folder.path.name}", category="model")
            losses = dict(trainer.callback_metrics)
        else:
            load_into(stage, trained)
        lightning.seed_everything(cfg.seed, verbose=False)  # so that measuring again has the same result
        with measuring(kept):
            metrics = {**measure(cfg, stage, trainer, datamodule), **totals}
    if sweep is not None and cfg.task == "fit" and trainer.is_global_zero:
        scored = score(metrics, cfg.stage.monitor, losses)
        keep_best(sweep, output.name, export, scored, lambda: write_export(stage, export, metadata))
    if trainer.is_global_zero:
        log.info("metrics: %s", write_metrics(folder.path, metrics))
    folder.release()
    return metrics


def facts_of(cfg: DictConfig, plain: Any, ablated: Mapping[str, Any]) -> dict[str, Any]:
    """What an export of this run says of it. plain: the configuration, unresolved."""
    facts = {"size": cfg.size, "budget": cfg.budget.name, "level": cfg.budget.level, "identity": identity(plain)}
    begun = origins(cfg.stage.needs, cfg.paths.exports) if cfg.task == "fit" else {}
    return (
        facts | {"data": digests(cfg.data), "from": begun} | ({"changes": ablated[cfg.stage.name]} if cfg.tag else {})
    )


def training_folder(
    cfg: DictConfig, output: Path, metadata: dict[str, Any], *, runs: Path, former: set[str]
) -> RunFolder:
    """Where to train. Which exports the run begins from is known now: some may have been trained just before."""
    metadata["from"] = origins(cfg.stage.needs, cfg.paths.exports)
    own = metadata["identity"]  # alone: of a run of an earlier version, which did not note what it began from
    return RunFolder.for_training(
        output, with_origins(own, metadata["from"]), runs=runs, resume=cfg.resume, also={own, *former}
    )


def settle(cfg: DictConfig, overrides: list[str]) -> None:
    """Refuse options that contradict each other, and fill in what follows from others."""
    validate(cfg)
    settle_conditioning(cfg)
    settle_thinker(cfg, overrides)
    settle_codec(cfg, overrides)
    pretrained_encoders.settle(cfg, overrides)
    monitors.settle(cfg)
    if cfg.debugging:
        cfg.paths.exports[cfg.stage.name] = f"{cfg.paths.output}/export"
    follow_export(cfg, overrides)
    if cfg.tokenizer is not None and not any(word.lstrip("+").startswith("vocab_size=") for word in overrides):
        cfg.vocab_size = pieces_of(cfg.tokenizer)


def check_checkpoint(path: str, datamodule: Any, stage: Any, *, named: bool) -> None:
    """Raise ValueError unless a run with this data and stage may be resumed from the checkpoint. named: by the user."""
    state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    datamodule.check_data(state, path=path, named=named)
    stage.on_load_checkpoint(state)


def make_data(cfg: DictConfig, sources: dict[str, Any]) -> Any:
    """The datamodule, which has read what the task needs. How many steps a training by epochs has is known now."""
    with rendezvous.rank_zero_first():  # a tokenizer and spectrograms are made once
        datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
        if cfg.task != "replay":
            datamodule.read(cfg.task)
    if cfg.task == "fit":
        warmup = (cfg.get("schedule") or {}).get("warmup_steps") or 0
        cfg.trainer.max_steps = count_steps(cfg.trainer, datamodule, warmup=warmup, processes=rendezvous.world_size())
    return datamodule


def replay(stage: Any, file: str) -> dict[str, float]:
    """The losses of a batch that the doctor saved, with the weights that the stage has now, dropout off."""
    batch, about = load_spike(file)
    if about["stage"] != stage.name:
        raise ValueError(f"spike={file} is a batch of stage={about['stage']}, not of stage={stage.name}")
    log.info("%s", describe(batch, about))
    with torch.no_grad():
        losses = stage.eval().step(batch)
    return {
        f"{stage.name}/replay/{name}": float(loss)
        for name, loss in {**losses, "loss": stage.total_loss(losses)}.items()
    }


def hand_over(
    stage: Any, trainer: lightning.Trainer, export: Path, metadata: dict[str, Any], *, fresh: Callable[[], Any]
) -> Any:
    """Write the export; return the stage with full weights: itself, or a new one if processes share them."""
    shared = isinstance(trainer.strategy, ModelParallelStrategy)
    if shared:
        weights = trainer.strategy.lightning_module_state_dict()  # whole, on the first process
        stage = fresh()
        if trainer.is_global_zero:
            stage.load_state_dict(weights)
    adapters.merge(stage)
    with rendezvous.rank_zero_first():
        if trainer.is_global_zero:
            write_export(stage, export, metadata)
        elif shared:
            load_into(stage, export)
    return stage


def write_export(stage: Any, export: Path, metadata: dict[str, Any]) -> None:
    """The export of a stage, with the metadata of its run."""
    modules = stage.export_modules() | stage.bundled_modules()
    description = stage.export_metadata() | {"run": metadata}
    save_export(export, modules, metadata=description, files=stage.export_files())


def measure(cfg: DictConfig, stage: Any, trainer: lightning.Trainer, datamodule: Any) -> dict[str, float]:
    """Metrics of the validation split or of the test splits, or the losses of a saved batch."""
    if cfg.task == "replay":
        return replay(stage, cfg.spike)
    if cfg.task == "validate":
        trainer.validate(stage, datamodule=datamodule)
        return {name: value.item() for name, value in trainer.callback_metrics.items() if "/val/" in name}
    with rendezvous.rank_zero_first():
        datamodule.read("test")
    trainer.test(stage, datamodule=datamodule, verbose=False)
    return stage.results


def prepare(cfg: DictConfig, overrides: list[str], ablated: Collection[str]) -> dict[str, Any]:
    """Make sure that data and prerequisites are there; return the datamodule's sources."""
    graph = stage_graph.read_needs(CONF, tells_states=tells_states(cfg))
    exports = {stage: Path(folder) for stage, folder in cfg.paths.exports.items()}
    wanted = stage_graph.Wanted(exports, cfg.size, cfg.budget.level)
    lacking = stage_graph.missing(cfg.stage.needs, graph, wanted)
    if lacking and (cfg.prerequisites == "error" or cfg.task != "fit"):  # to measure is not to train
        first = stage_graph.shown(lacking[0], overrides, ablated=lacking[0] in ablated)
        raise FileNotFoundError(f"stage={cfg.stage.name} needs stage={lacking[0]} first: run  {first}")
    jobs = stage_graph.side_by_side()
    if cfg.task == "fit" and not cfg.dry_run:
        forecast.announce(cfg, lacking, graph, jobs=jobs, conf=CONF)
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    world: Any = OmegaConf.to_container(cfg.stage.world)
    sources = resolve_sources(data, stage=cfg.stage.name, shape=cfg.stage.shape, world=world)
    if cfg.task == "fit" and cfg.data.kind != "world" and rendezvous.rank() == 0:  # before anything is computed from it
        options: Any = OmegaConf.to_container(cfg.datamodule, resolve=True)
        log_quick_findings(make_plan(cfg, sources, options, given_val=cfg.data.val is not None))
    stage_graph.train(lacking, graph, overrides=overrides, jobs=jobs, ablated=ablated)
    return sources


def build_trainer(cfg: DictConfig, output: Path) -> lightning.Trainer:
    """Callbacks, loggers and trainer of a run; metrics.csv is always written."""
    callbacks = [instantiate(callback, _convert_="all") for callback in cfg.callbacks.values() if callback]
    told: Any = OmegaConf.to_container(cfg, resolve=True)
    make_one: Any = functools.partial(instantiate, _convert_="all")
    loggers = make_loggers(cfg.get("logger"), told, output=output, build=make_one)
    precision = best_precision(cfg.trainer.accelerator) if cfg.trainer.precision == "auto" else cfg.trainer.precision
    plugins: list[Any] = [AtomicCheckpointIO()]
    if rendezvous.world_size() == 1:  # also within an allocation of several tasks (SLURM, LSF)
        plugins.append(LightningEnvironment())
    make: Any = instantiate(cfg.trainer, _convert_="all")
    if not any(isinstance(callback, ProgressBar) for callback in callbacks):  # or Lightning adds one of its own
        make = functools.partial(make, enable_progress_bar=False)
    trainer = make(
        callbacks=callbacks, logger=loggers, precision=precision, default_root_dir=str(output),
        use_distributed_sampler=False, plugins=plugins,
    )  # fmt: skip
    if cfg.trainer.get("overfit_batches"):  # of which Lightning would validate as many, after each
        trainer.limit_val_batches = cfg.trainer.limit_val_batches
    count_in_steps(trainer)
    rendezvous.check_devices(trainer.num_devices * trainer.num_nodes)
    return trainer


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@one_line_errors()
def main(cfg: DictConfig) -> float | None:
    """Entry point; returns the monitored metric to a sweeper."""
    silence_known_warnings()
    signals.listen()
    state = HydraConfig.get()
    output, failed = Path(state.runtime.output_dir), True
    sweep = Path(state.sweep.dir) if state.mode == RunMode.MULTIRUN else None
    try:
        apart(cfg, sweep, job=output.name)
        metrics = run(cfg, output=output, overrides=list(state.overrides.task), sweep=sweep)
        failed = False
    except Exception as error:
        if sweep is None:
            raise
        mark_failed(output, error, one_line(error))
        return None
    finally:
        close_loggers(failed=failed)
        remove_if_empty(output)
        dry_run.clean_up()
        forecast.clean_up()
    scored = score(metrics, cfg.stage.monitor, {})
    return None if scored is None else scored[1]


if __name__ == "__main__":
    with one_line_errors():
        rendezvous.join()
    run_main(main, config="train", removable=("callbacks", "logger"))
    rendezvous.leave()
