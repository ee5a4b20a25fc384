"""The identity of a run: a hash over what decides its result. The same command resumes a run of the same identity."""

import copy
import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from muomni import aliases
from muomni.checkpoints.export import check_place, is_export, read_description

log = logging.getLogger(__name__)

#: Top-level keys of the configuration that decide a run's result; paths and loggers do not.
KEYS = (
    "stage", "size", "data", "budget", "module", "datamodule", "optim", "schedule", "trainer", "seed", "backbone", "mel",
    "hearing", "codec_mel", "speakers", "first_codebook", "contrastive", "image_encoder", "judge", "vocoder", "vocab_size",
    "compile", "activation_checkpointing", "characters", "ema",
)  # fmt: skip
#: Which steps' weights are exported, and when training ends; where all of it is off it decides nothing (muomni/run/monitors.py).
SELECTION: dict[str, Any] = {
    "export": "last", "average": 1, "early_stopping": {"patience": None, "min_delta": 0.0},
    "monitor": "${stage.name}/val/loss", "val_samples": None,
}  # fmt: skip
#: Options of a Thinker of other families (docs/pretrained.md).
FAMILIES: dict[str, Any] = {
    "head_dim": None, "norm": "rms", "output_norm": False, "qk_norm_eps": 1e-6, "qkv_bias": False, "out_bias": False,
    "attention_scale": None, "embedding_scale": 1.0, "learned_positions": False, "full_attention": [],
    "local_rope_theta": None, "norm_topk_prob": True,
}  # fmt: skip
#: Of an audio encoder that reads in chunks.
CHUNKS: dict[str, Any] = {"chunk": 0, "right_context": 0, "left_context": None}
#: Of a Talker, and of the speech that is measured.
SPEAKING: dict[str, Any] = {
    "reads": "letters", "pattern": "parallel", "text_dropout": 0.0, "speaker_vector": False, "conditioning": "text",
    "state_width": 0,
}  # fmt: skip
#: Which states a Talker would be told.
TOLD: dict[str, Any] = {
    "_target_": "muomni.inference.tts.text_states.TextStates.from_export", "_partial_": True,
    "folder": "${paths.exports.thinker}",
}  # fmt: skip
SPOKEN: dict[str, Any] = {
    "_target_": "muomni.inference.tts.options.SpeechOptions", "guidance": 1.0, "code_penalty": 0.0, "code_temperature": 0.0,
    "code_seed": 0,
}  # fmt: skip
INDEPENDENT: dict[str, Any] = {  # of the stages that speak: another judge
    "_target_": "muomni.evaluation.independent.independent_judge", "whisper": "${whisper}",
    "sample_rate": "${codec_mel.sample_rate}", "threads": 1,
}  # fmt: skip
#: Options that runs of before did not have, with the values at which they change nothing: they are left out then.
OFF: dict[str, Any] = {
    "layer_drop": 0.0, "module.training.layer_drop": "${layer_drop}",
    "label_smoothing": 0.0, "module.training.label_smoothing": "${label_smoothing}",
    "text": None, "module.training.text_form": "${text}", "datamodule.text_form": "${text}", "tokenizer": None,
    "datamodule.bucket_augmented": False, "thinker": {"path": None, "max_length": None}, "codec": {"path": None},
    "data.sets": None, "data.mixture": None, "data.mixture_within": "batch", "data.split_shares": None, "data.instruct": None,
    "adapter": None, "init_from": None, "module.lr_multipliers": {"encoder": 1.0},
    "whisper": None, "module.evaluator.independent": INDEPENDENT, "module.evaluator.speech.independent": INDEPENDENT,
    "backbone.thinker.dropout": 0.0, "module.model.dropout": 0.0,  # the second: resolved
    **{f"{where}.{key}": value for where in ("backbone.thinker", "module.model") for key, value in FAMILIES.items()},
    **{f"{where}.{key}": value for where in ("backbone.audio", "module.model") for key, value in CHUNKS.items()},
    **{f"{where}.{key}": value for where in ("backbone.talker", "module.model") for key, value in SPEAKING.items()},
    "references": False, "datamodule.references": "${backbone.talker.speaker_vector}",  # the first: resolved
    "module.reference_share": 0.5, "module.evaluator.voice.options": SPOKEN, "module.states": TOLD,
}  # fmt: skip
#: The trainer's options that say where a run computes: it may be resumed elsewhere, or by another number of processes.
WHERE = ("accelerator", "devices", "num_nodes", "strategy")
#: Every configuration of a stage names it since version 0.2.
TRAINING_OPTIONS = "muomni.stages.training_options.TrainingOptions"
#: What measures, or wires modules together: 0.1 configured it elsewhere, so a value counts where both versions have it.
MEASURING = tuple(
    f"module.{name}." for name in ("evaluator", "read", "vocoder", "voice", "aligner", "talker", "states")
)


def identity(config: Mapping[str, Any], keys: tuple[str, ...] = KEYS) -> str:
    """16 hex digits over the given keys of a configuration, interpolations unresolved."""
    chosen = aliases.former(decisive(config, keys))
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]


def origins(needs: Iterable[str], exports: Mapping[str, Any]) -> dict[str, str]:
    """Stage -> 16 hex digits over what the description of its export says, of those that a run needs and that are there. They
    change when such an export is trained with other options, on other data, or after others of its own."""
    folders = {stage: Path(exports[stage]) for stage in needs if is_export(Path(exports[stage]))}
    facts = {stage: json.dumps(read_description(folder)["facts"], default=str) for stage, folder in folders.items()}
    return {stage: hashlib.sha256(said.encode()).hexdigest()[:16] for stage, said in facts.items()}


def with_origins(identity: str, begun: Mapping[str, str]) -> str:
    """What is in a run folder's identity.txt: the identity, and a word for the exports that the run begins from, if any."""
    word = ",".join(f"{stage}={digest}" for stage, digest in sorted(begun.items()))
    return f"{identity} {word}".strip()


def is_up_to_date(export: Path, metadata: Mapping[str, Any], former: Collection[str]) -> bool:
    """Whether there is an export that a run of this configuration (or of an identity in `former`) made from this data and from
    those of the exports it needs that are there."""
    made = read_description(export)["facts"].get("run", {}) if is_export(export) else {}
    return (
        made.get("identity") in {metadata["identity"], *former}
        and made.get("data", metadata["data"]) == metadata["data"]
        and all(made.get("from", {}).get(stage, now) == now for stage, now in metadata["from"].items())
    )


def is_done(cfg: Any, export: Path, metadata: dict[str, Any], former: set[str]) -> bool:
    """Whether there is nothing to train. Raises ValueError if the export could not be written, before anything is trained."""
    if cfg.task == "fit" and cfg.when_done == "skip" and is_up_to_date(export, metadata, former):
        log.info("stage=%s: %s was made by this very configuration; nothing to do", cfg.stage.name, export)
        return True
    if cfg.task == "fit":
        check_place(export)
    return False


def decisive(config: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """What of a configuration decides the result of its run, among the given keys, without what is off or says where it runs."""
    given = {key: config.get(key) for key in keys} | {key: config[key] for key in OFF if key in config}
    chosen: dict[str, Any] = copy.deepcopy(given)
    if "ema" in keys:
        chosen["ema"] = (config.get("callbacks") or {}).get("ema")
    selection = {key: config.get(key, unset) for key, unset in SELECTION.items()}
    if "stage" in keys and any(selection[key] != SELECTION[key] for key in ("export", "average", "early_stopping")):
        chosen["selection"] = selection
    if "trainer" in config:
        chosen["trainer"] = {key: value for key, value in config["trainer"].items() if key not in WHERE}
    datamodule = chosen.get("datamodule") or {}
    if datamodule.get("tokenizer") == "${tokenizer}":  # formerly an option of the datamodule alone
        datamodule["tokenizer"] = config.get("tokenizer")
    for path, unset in OFF.items():
        *parents, name = path.split(".")
        owner: Any = chosen
        for key in parents:
            owner = owner.get(key) if isinstance(owner, dict) else None
        if isinstance(owner, dict) and name in owner and owner[name] in (unset, OFF.get(name)):
            del owner[name]
    if "num_workers" in (config.get("datamodule") or {}):
        # The order of the data does not depend on it. It counts as its default, not as absent: so the runs and exports of
        # before keep their identity.
        chosen["datamodule"]["num_workers"] = 0
    return chosen


def identities_of_0_1(runs: Path, config: Mapping[str, Any]) -> set[str]:
    """The identities of the runs of version 0.1 under `runs` that trained what this configuration trains, which is given with
    interpolations unresolved. The `module` of 0.1 had another structure, so its hash differs: the saved configuration is
    brought to today's names, and resolved values are compared."""
    found = set()
    for marker in runs.glob("**/identity.txt"):
        saved = marker.parent / ".hydra" / "config.yaml"
        text = saved.read_text() if saved.is_file() else TRAINING_OPTIONS
        if TRAINING_OPTIONS not in text and trains_the_same(aliases.config(yaml.safe_load(text)), config):
            found.add(marker.read_text().strip())
    return found


def trains_the_same(former: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a configuration of 0.1, with the names of today, has the values of today's wherever they decide the weights."""
    try:
        old, new = _values(former), _values(config)
    except OmegaConfBaseException:  # it refers to what is not there
        return False
    new = {key: value for key, value in new.items() if value != TRAINING_OPTIONS}
    measuring = {key for key in old | new if key.startswith(MEASURING)}
    shared = {key for key in measuring & old.keys() & new.keys() if not key.endswith("._target_")}
    kept = (old.keys() | new.keys()) - measuring | shared
    return all(key in old and key in new and old[key] == new[key] for key in kept)


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> resolved value of what decides a run's result."""
    whole = OmegaConf.create({**config, "paths": {**config.get("paths", {}), "output": ""}})  # of this very run
    return aliases.flattened(decisive(OmegaConf.to_container(whole, resolve=True), KEYS))  # type: ignore[arg-type]
