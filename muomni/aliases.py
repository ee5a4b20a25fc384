"""Names of earlier versions that keep working: one table for each kind of name, and the functions that apply them.

A published name that changes gets a row, old -> new; nothing else has to be done:

    MODULES    import paths that configurations (`_target_`) or the documentation named; a module that is gone is redirected
    NAMES      functions and classes of such, `module.name` by the module's path of today; the module of the old name ends with
               `def __getattr__(name): return aliases.attribute(__name__, name)`
    OPTIONS    keys of the configuration; with a value (`ablation=gqa`) the words that stand for it now
    REMOVED    keys of the configuration that are refused, with what to do instead
    METRICS    last parts of metric names, `exact` of `omni_sft/test/exact`
    METADATA   keys below `facts` in model.yaml
    MODULE_OPTIONS   `part.option` in model.yaml

A run's identity is computed from the old names (`former`): a run keeps it where only names changed. The stages' `module` of 0.1
had another structure, which no table undoes: muomni/run/identity.py compares values.
"""

import functools
import importlib
import importlib.abc
import importlib.util
import logging
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

MODULES = {
    "callbacks.journal": "callbacks.run_info",
    "datamodules.picture_augment": "datamodules.image_augment",
    "muomni.frontends.griffin_lim": "muomni.inference.tts.griffin_lim",
    "muomni.frontends.mel_correction": "muomni.inference.tts.mel_correction",
    "muomni.hardware": "muomni.run.hardware",
    "muomni.inference.ngram": "muomni.inference.asr.ngram",
    "muomni.inference.read": "muomni.inference.ocr",
    "muomni.inference.recognise": "muomni.inference.asr.recognizer",
    "muomni.inference.speech": "muomni.inference.tts.speaker",
    "muomni.inference.vocoder": "muomni.inference.tts.vocoder",
    "muomni.micro_omni": "muomni.interop.micro_omni",
    "muomni.runs": "muomni.run.run_folder",
    "muomni.single_files": "muomni.checkpoints.single_file",
    "muomni.stages.spoken_answers": "muomni.evaluation.spoken_eval",
    "muomni.sweeps": "muomni.run.sweeps",
}
NAMES = {
    "datamodules.image_augment.PictureAugment": "datamodules.image_augment.ImageAugment",
    "muomni.inference.ocr.read_pictures": "muomni.inference.ocr.read_images",
    "muomni.inference.asr.recognizer.Recogniser": "muomni.inference.asr.recognizer.Recognizer",
    "muomni.checkpoints.load_export": "muomni.checkpoints.export.load_export",
}
OPTIONS: dict[str, str] = {
    "budget.rank": "budget.level",
    "datamodule.turns": "datamodule.questions_per_row",
    "datamodule.apart": "datamodule.isolated_share",
    "datamodule.opening": "datamodule.curriculum",
    "hearing=default": "",  # groups that had one option
    "paths=default": "",
    "schedule=warmup_stable_decay": "schedule=wsd",
    "parts": "modules",  # of python -m muomni.interop.micro_omni
    "module.activation_checkpointing": "module.training.activation_checkpointing",
    "module.answer_power": "module.length_exponent",
    "module.answers": "module.evaluator.answers",
    "module.candidates": "module.evaluator.candidates",
    "module.compile_model": "module.training.compile_model",
    "module.griffin_lim": "module.evaluator.griffin_lim",
    "module.judge": "module.evaluator.judge",
    "module.loss_weights": "module.training.loss_weights",
    "module.max_new_tokens": "module.evaluator.max_new_tokens",
    "module.optimizer": "module.training.optimizer",
    "module.audio.parts": "module.audio.modules",
    "module.codec.parts": "module.codec.modules",
    "module.thinker.parts": "module.thinker.modules",
    "module.vision.parts": "module.vision.modules",
    "module.probe_split": "module.evaluator.probe_split",
    "module.rates": "module.lr_multipliers",
    "module.schedule": "module.training.schedule",
    "module.speech": "module.evaluator.speech",
    "module.speech=null": "module.talker=null",
    "module.speech.talker": "module.talker",
    "module.weight_decay": "module.training.weight_decay",
}
REMOVED: dict[str, str] = {
    "data.templates": "captions and questions have many forms now: data.canonical is the share of the first (docs/world.md)"
}
METRICS: dict[str, str] = {}
METADATA: dict[str, str] = {"run.rank": "run.level"}
MODULE_OPTIONS: dict[str, str] = {}


def _renamed(name: str, table: Mapping[str, str]) -> str:
    """A dotted name whose longest beginning that stands in the table is replaced."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (new := table.get(".".join(parts[:end]))) is not None:
            return ".".join([new, *parts[end:]])
    return name


def flattened(tree: Any, path: str = "") -> dict[str, Any]:
    """Dotted key -> value of nested mappings."""
    if not isinstance(tree, Mapping) or not tree:
        return {path: tree}
    return {
        key: value
        for name, each in tree.items()
        for key, value in flattened(each, f"{path}.{name}" if path else str(name)).items()
    }


def _flipped(table: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in table.items() if "=" not in old}


def target(path: str) -> str:
    """The import path of today of a `_target_`."""
    return _renamed(_renamed(path, MODULES), NAMES)


def override(word: str) -> list[str]:
    """A word of a command line, `KEY=VALUE`, `~KEY` or anything else -> the words that it stands for now; a line says so.

    Raises ValueError for a key that was removed.
    """
    prefix, key, equals, value = re.fullmatch(r"([+~]*)([^=]*)(=?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    if word in OPTIONS:
        if OPTIONS[word]:
            _say(word, OPTIONS[word])
        return OPTIONS[word].split()
    for old, remedy in REMOVED.items():
        if key == old or key.startswith(f"{old}."):
            raise ValueError(f"{word}: {old} is no option any more: {remedy}")
    new = _renamed(key, OPTIONS)
    if new != key:
        _say(key, new)
    return [f"{prefix}{new}{equals}{value}"]


@functools.cache
def _say(old: str, new: str) -> None:
    log.warning("%s is now called %s", old, new)


def config(saved: Any) -> Any:
    """A copy of a configuration of an earlier version, interpolations unresolved, with the names of today."""
    return _rewritten(saved, {old: new for old, new in OPTIONS.items() if "=" not in old}, target)


def former(current: Any) -> Any:
    """A copy of a configuration of today with the names of version 0.1: the inverse of `config`."""
    names, modules = _flipped(NAMES), _flipped(MODULES)
    return _rewritten(current, _flipped(OPTIONS), lambda path: _renamed(_renamed(path, names), modules))


def _rewritten(tree: Any, keys: Mapping[str, str], retarget: Any) -> Any:
    def copy(value: Any, path: str = "") -> Any:
        if isinstance(value, Mapping):
            return {key: copy(each, f"{path}.{key}" if path else str(key)) for key, each in value.items()}
        if isinstance(value, str):
            if path.endswith("_target_"):
                return retarget(value)
            return re.sub(r"\$\{([\w.@]+)", lambda found: "${" + _renamed(found[1], keys), value)
        return [copy(each, path) for each in value] if isinstance(value, Sequence) else value

    result = copy(tree)
    for old, new in keys.items():
        *parents, last = old.split(".")
        node = functools.reduce(lambda node, name: node.get(name) if isinstance(node, dict) else None, parents, result)
        if isinstance(node, dict) and last in node:
            *parents, name = new.split(".")
            functools.reduce(lambda node, name: node.setdefault(name, {}), parents, result)[name] = node.pop(last)
    return result


def metric(name: str) -> str:
    """The name of today of a metric, `STAGE/SPLIT/METRIC`."""
    before, slash, last = name.rpartition("/")
    return f"{before}{slash}{METRICS.get(last, last)}"


def description(document: dict[str, Any]) -> dict[str, Any]:
    """What model.yaml says (a checked table), with the keys of today."""
    parts = dict(document["parts"])
    for name, part in parts.items():
        if isinstance(part, dict) and isinstance(part.get("options"), dict):
            options = {MODULE_OPTIONS.get(f"{part.get('part')}.{key}", key): v for key, v in part["options"].items()}
            parts[name] = {**part, "options": options}
    return {**document, "facts": _rewritten(document["facts"], METADATA, str), "parts": parts}


def attribute(module: str, name: str) -> Any:
    """What a module offered under an old name: for its `__getattr__`. Raises AttributeError."""
    old = f"{module}.{name}"
    if old not in NAMES:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{old} is now {NAMES[old]}", DeprecationWarning, stacklevel=3)
    owner, _, new = NAMES[old].rpartition(".")
    return getattr(importlib.import_module(owner), new)


class _Redirect(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports of modules that were moved."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        new = _renamed(fullname, MODULES)
        if new == fullname:
            return None
        warnings.warn(f"{fullname} is now {new}", DeprecationWarning, stacklevel=2)
        real = importlib.util.find_spec(new)
        spec = ModuleSpec(fullname, self, origin=new)
        spec.submodule_search_locations = real.submodule_search_locations if real else None
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(spec.origin))
        spec.loader_state = module.__spec__  # which the import system is about to replace
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state if module.__spec__ else None

    def get_code(self, fullname: str) -> Any:
        """For `python -m OLD.MODULE`."""
        spec: Any = importlib.util.find_spec(_renamed(fullname, MODULES))
        return spec.loader.get_code(spec.name)


def install() -> None:
    """Redirect imports of old modules from now on; `import muomni` does so."""
    if not any(isinstance(finder, _Redirect) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Redirect())
