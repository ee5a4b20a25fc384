"""From the words of a command line to a report: the configuration that train.py would compose, and the data that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from datamodules.check.finding import Finding, Report, Severity
from datamodules.check.plan import Plan, make_plan
from datamodules.check.run import check
from datamodules.formats.hugging_face import HUGGING_FACE
from datamodules.manifests import TextFile
from datamodules.sources import resolve_sources
from datamodules.tokenizer_cache import tokenizer_for, tokenizer_of_export
from muomni.cli.composition import compose_words
from muomni.cli.help import CONF
from muomni.cli.option_rules import validate
from muomni.frontends.tokenizer import Tokenizer

#: The stage that is meant where only the data is named.
STAGES = {"text": "thinker", "image_text": "vision", "speech": "audio", "ocr": "ocr", "sft": "omni_sft"}
QUICK = 64 << 20  # bytes of training text from which a quick look trains no tokenizer


def checked_report(words: Sequence[str], *, sample: int | None) -> tuple[Report, DictConfig]:
    """The report on the data of a `train.py` command, and its configuration. Raises ValueError or FileNotFoundError where the
    command is wrong, not the data."""
    cfg = compose_words([*_stage_of(words), *words])
    validate(cfg)
    plan = plan_of(cfg, words)
    for source in plan.sources:
        if (
            not source.path.exists() and source.reading.format != HUGGING_FACE.name
        ):  # which may be the name of one in a hub
            raise FileNotFoundError(f"{source.option}={source.path}: no such file")
    if not plan.sources:
        raise ValueError("no data: give data=SHAPE data.train=FILE")
    tokenizer, trouble = _tokenizer(plan, cfg, quick=sample is not None)
    if tokenizer is not None:
        plan = replace(plan, tokenizer=tokenizer)
    report = check(plan, sample=sample)
    if trouble is not None and not any(finding.check in COVERED for finding in report.findings):
        report.findings.append(trouble)
    return report, cfg


#: Findings that say why there is no tokenizer: its text cannot be read.
COVERED = ("bad-rows", "unreadable-file", "no-rows")


def plan_of(cfg: DictConfig, words: Sequence[str]) -> Plan:
    """The plan of a composed configuration; a world is made where it is not there yet."""
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    world: Any = OmegaConf.to_container(cfg.stage.world)
    unweighted = bool(data.get("sets")) and not data.get("mixture")
    if unweighted:
        data["mixture"] = dict.fromkeys(data["sets"], 1)
    sources = resolve_sources(data, stage=cfg.stage.name, shape=cfg.stage.shape, world=world)
    options: Any = OmegaConf.to_container(cfg.datamodule, resolve=True)
    plan = make_plan(cfg, sources, options, given_val=data.get("val") is not None or data["kind"] == "world")
    return replace(plan, shares=dict.fromkeys(plan.shares, 0.0)) if unweighted else plan


def picture_folder(words: Sequence[str], cfg: DictConfig) -> Path | None:
    """Where files go without out=: into a folder of runs that the command names; None: nowhere."""
    return Path(cfg.paths.runs) / "check" if any(word.startswith("paths.runs=") for word in words) else None


def _stage_of(words: Sequence[str]) -> list[str]:
    """The stage of a command that names only its data."""
    keys = {word.partition("=")[0] for word in words}
    named = [word.partition("=")[2] for word in words if word.startswith("data=")]
    if keys & {"stage", "experiment"} or not named:
        return []
    file = CONF / "data" / f"{named[-1]}.yaml"
    kind = (yaml.safe_load(file.read_text()) or {}).get("kind") if file.is_file() else None
    return [f"stage={STAGES[kind]}"] if kind in STAGES else []


def _tokenizer(plan: Plan, cfg: DictConfig, *, quick: bool) -> tuple[Tokenizer | None, Finding | None]:
    """The tokenizer that training would use, made where it is not there yet; or what keeps it from being made."""
    options: Mapping[str, Any] = plan.options
    if "tokenizer" not in options:
        return None, None
    given, trained = options["tokenizer"], plan.trained
    try:
        if plan.shape == "sft":
            return Tokenizer.load(tokenizer_of_export(given)), None
        if not trained and given is None:
            return None, _untold("there is no training text to make a tokenizer of")
        sizes = (each.path.stat().st_size for each in trained if each.path.is_file())
        if quick and given is None and sum(sizes) > QUICK:
            return None, _untold("a quick look trains no tokenizer on much text")
        text = options.get("text")
        form, files = options.get("text_form"), [TextFile(str(each.path), each.reading, each.root) for each in trained]
        path = tokenizer_for(
            given, text=text or files, vocab_size=options["vocab_size"], root=Path(options["tokenizer_root"]),
            shape="text" if text else plan.shape, exact=plan.shape == "text", form=form,
        )  # fmt: skip
        return Tokenizer.load(path).with_form(form), None
    except FileNotFoundError as error:
        return None, _untold(str(error))
    except ValueError as error:
        what = f"training would stop: {error}"
        return None, Finding(severity=Severity.ERROR, check="tokenizer", split="train", what=what)


def _untold(why: str) -> Finding:
    return Finding(severity=Severity.NOTE, check="no-tokenizer", split="", what=f"tokens are not counted: {why}")
