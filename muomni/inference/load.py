"""Files -> an engine: an export folder, with the Talker of another one where asked."""

from pathlib import Path

import torch

from muomni.checkpoints import Export, is_export, load_export
from muomni.frontends.spoken import LETTERS
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.compact import compact
from muomni.inference.compiled import make_runtime
from muomni.inference.engine import LACKS, Engine


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    format: str = "auto",
    talker: str | Path | None = None,
    compile: str = "none",
    dtype: str = "float32",
    packages: str | Path | None = None,
) -> Engine:
    """An engine from an export folder (or the model.safetensors in it).

    device: auto takes a GPU where there is one. talker: another export whose Talker and codec speak the answers.
    compile, dtype: how the Thinker decodes, and how its weights are kept (docs/decoding.md). packages: the folder of
    compiled steps; default: `compiled` in the export.
    Raises FileNotFoundError or ValueError naming what is wrong with the path, the export or the options.
    """
    folder = Path(path)
    if folder.name == "model.safetensors" and folder.is_file():
        folder = folder.parent
    if folder.is_file():
        imports = "of a checkpoint of micro-omni:  python -m muomni.micro_omni import"
        raise ValueError(f"{folder}: not an export folder; a training run writes checkpoints/<stage>/ ({imports})")
    if not is_export(folder):
        raise FileNotFoundError(f"{folder}: no export here (no model.yaml and model.safetensors)")
    export = load_export(folder)
    if talker is not None:
        export = with_talker(export, load_export(talker))
    tokenizer = None
    if (folder / "tokenizer.model").is_file():
        tokenizer = Tokenizer.load(folder / "tokenizer.model")
        check_tokenizer(tokenizer, export)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if "thinker" in export.parts:
        compact(export.parts["thinker"], dtype)
    elif compile != "none" or dtype != "float32":
        raise ValueError(f"{folder}: compile={compile} dtype={dtype}: {LACKS['thinker']}")
    engine = Engine(
        parts=export.parts,
        facts=export.facts,
        tokenizer=tokenizer,
        where=str(folder),
        format=format,
        device=torch.device(device),
    )
    if "thinker" in export.parts:
        thinker = engine.need_prompter().thinker
        engine.runtime = make_runtime(thinker, mode=compile, packages=Path(packages or folder / "compiled"))
    return engine


def check_tokenizer(tokenizer: Tokenizer, export: Export) -> None:
    """Raise ValueError where the tokenizer in the folder is not the one the parts were trained with."""
    trained_with = export.facts.get("tokenizer")
    if trained_with is not None and trained_with != tokenizer.fingerprint():
        raise ValueError(
            f"{export.folder}/tokenizer.model: fingerprint {tokenizer.fingerprint()[:12]}, but the model was trained "
            f"with {str(trained_with)[:12]}: put the right tokenizer back, or train again"
        )


def with_talker(export: Export, speech: Export) -> Export:
    """The export, with Talker and codec of another one."""
    for name in ("talker", "codec"):
        if name not in speech.parts:
            raise ValueError(f"{speech.folder}: {LACKS[name]}")
    spoken = {name: speech.parts[name] for name in ("talker", "codec")}
    facts = dict(export.facts) | {"codec_mel": speech.facts.get("codec_mel", speech.facts.get("mel"))}
    facts["alphabet"] = speech.facts.get("alphabet", LETTERS)
    return Export(parts=export.parts | spoken, facts=facts, folder=export.folder)
