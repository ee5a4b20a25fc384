"""The identity of a run: a hash over what decides its result. The same command resumes a run of the same identity."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from muomni import aliases

#: Top-level keys of the configuration that decide a run's result; paths and loggers do not.
KEYS = (
    "stage", "size", "data", "budget", "module", "datamodule", "optim", "schedule", "trainer", "seed", "backbone", "mel",
    "hearing", "codec_mel", "speakers", "first_codebook", "contrastive", "judge", "vocoder", "vocab_size", "compile",
    "activation_checkpointing", "characters", "ema",
)  # fmt: skip
#: The trainer's options that say where a run computes: it may be resumed elsewhere, or by another number of processes.
WHERE = ("accelerator", "devices", "num_nodes", "strategy")


def identity(config: Mapping[str, Any], keys: tuple[str, ...] = KEYS) -> str:
    """16 hex digits over the given keys of a configuration, interpolations unresolved."""
    chosen = {key: config.get(key) for key in keys}
    if "ema" in keys:
        chosen["ema"] = (config.get("callbacks") or {}).get("ema")
    if "trainer" in config:
        chosen["trainer"] = {key: value for key, value in config["trainer"].items() if key not in WHERE}
    if "num_workers" in (config.get("datamodule") or {}):
        # The order of the data does not depend on it. It counts as its default, not as absent: so the runs and exports of
        # before keep their identity.
        chosen["datamodule"] = {**config["datamodule"], "num_workers": 0}
    chosen = aliases.former(chosen)
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]
