"""Serve an export over HTTP by OpenAI's API, with a page to talk to it: the composition root of `muomni.serving`."""

import logging
import os
import sys
import time
import webbrowser
from dataclasses import fields
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the imports below take seconds
    from muomni.cli import help

    help.begin("serve")

import torch
from omegaconf import DictConfig, OmegaConf

from muomni import aliases
from muomni.checkpoints.export import is_export
from muomni.cli.errors import one_line_errors, run_once
from muomni.cli.help import BEGUN
from muomni.cli.verbatim import split_arguments
from muomni.inference.decoding.options import preset
from muomni.inference.load import find_export, load_model
from muomni.inference.prompt import as_list
from muomni.user_path import user_path

PATHS = ("ckpt", "talker", "vocoder", "embeddings", "packages")
STRINGS = (*PATHS, "key", "host", "model")
LOADING = ("device", "format", "talker", "vocoder", "dtype")
log = logging.getLogger("muomni.serving")


def run(cfg: dict[str, Any]) -> None:
    """Serve until a signal ends it."""
    try:
        from muomni.heap import limit_heaps
        from muomni.serving.app import make_state
        from muomni.serving.observe import quiet_loggers
        from muomni.serving.server import make_server
        from muomni.serving.settings import ServerSettings
        from muomni.serving.voices import name_voices
    except ModuleNotFoundError as error:
        raise ValueError(f"the server needs {error.name}: pip install 'muomni[serve]'") from error
    limit_heaps()
    cfg = cfg | {name: str(user_path(cfg[name])) for name in PATHS if cfg[name]}
    if cfg["threads"] is not None:
        torch.set_num_threads(cfg["threads"])
    export = find_export(cfg["ckpt"], Path(cfg["paths"]["checkpoints"]))
    named = {field.name for field in fields(ServerSettings)}
    lists = {name: tuple(map(str, as_list(cfg[name]))) for name in ("names", "origins", "hosts")}
    generation = dict(cfg["generation"])
    own = {"key": cfg["key"] or os.environ.get("MUOMNI_KEY"), "model": cfg["model"] or export.resolve().stem}
    own["seed"] = generation.pop("seed")
    settings = ServerSettings(**{name: cfg[name] for name in named & cfg.keys()} | lists | own)
    options = preset("greedy", **generation)
    engine = load_model(export, **{name: cfg[name] for name in LOADING})
    if recordings := as_list(cfg["voices"]):
        name_voices(engine, [user_path(str(recording)) for recording in recordings])
    compiled = {name: cfg[name] for name in ("compile", "packages")}
    state = make_state(engine, settings, options, embedder=_embedder(cfg, export), **compiled)
    quiet_loggers()
    server = make_server(state)
    server.announce(lambda url: _ready(cfg, export, url))
    server.run()


def _embedder(cfg: dict[str, Any], export: Path) -> Any:
    """The contrastive towers, if there are any."""
    from muomni.inference.embedding import Embedder

    wanted = cfg["embeddings"]
    if wanted == "none":
        return None
    path = export.parent / "vision" if wanted == "auto" else Path(wanted)
    if wanted == "auto" and not is_export(path):
        return None
    return Embedder(path, device=cfg["device"])


def _ready(cfg: dict[str, Any], export: Path, url: str) -> None:
    print(f"{export}: {url}/v1, ready after {time.perf_counter() - BEGUN:.1f} s", file=sys.stderr)
    if cfg["page"]:
        print(f"page: {url}/ (Ctrl-C stops the server)", file=sys.stderr, flush=True)
        if cfg["open"]:
            webbrowser.open(url)


def main() -> None:
    """Command line -> configuration -> `run`. A user's mistake is one line and exit status 1."""
    with one_line_errors():
        words = [each for word in sys.argv[1:] for each in aliases.override(word)]
        raw, rest = split_arguments(words, strings=STRINGS)

    def composed(cfg: DictConfig) -> None:
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        run({str(key): value for key, value in plain.items()} | raw)

    sys.argv[1:] = rest
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    run_once(composed, config="serve")


if __name__ == "__main__":
    main()
