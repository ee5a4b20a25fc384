"""Answer, transcribe, speak or chat with an export: composition root of inference. Answers go to standard output."""

import io
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the imports below take seconds
    from muomni.cli import help

    help.begin("infer")

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from muomni import aliases
from muomni.checkpoints.export import is_export, list_exports
from muomni.checkpoints.single_file import check_single_place, save_single
from muomni.cli.errors import CONF, one_line_errors, run_main
from muomni.frontends.audio_io import check_sound_target, write_sound
from muomni.frontends.video import read_video
from muomni.inference.cli.chat import Chat
from muomni.inference.cli.tasks import choose_task, reject_unused
from muomni.inference.decoding.options import GenerationOptions, preset, reject_unused_options
from muomni.inference.engine import Engine
from muomni.inference.load import gather, load_model, read_tokenizer
from muomni.inference.prompt import as_list
from muomni.user_path import user_path

PATHS = ("ckpt", "talker", "vocoder", "image", "video", "audio_in", "packages", "lm", "export", "audio_out")
STRINGS = (*PATHS, "text", "prompt", "system_prompt")
COUNTS = {"voice": 0, "video_frames": 1, "n_best": 1, "beams": 1, "threads": 1}  # whole numbers, and the least of each
MAX_THREADS = 1024
SWITCHES = ("transcribe", "timestamps", "history", "speak", "echo", "truncate", "quiet")


def split_arguments(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Command line -> strings as the shell passed them, and what Hydra shall parse. Several image= are several pictures;
    another option that is given twice is refused: one of both would be without effect."""
    raw: dict[str, Any] = {}
    rest: list[str] = []
    given: set[str] = set()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key == "image" and key in raw:
            raw[key] = [*([raw[key]] if isinstance(raw[key], str) else raw[key]), value]
            continue
        if equals and key in given:
            raise ValueError(f"{key}= is given twice: give one of them")
        given.add(key)
        if equals and key in STRINGS:
            raw[key] = value
        else:
            rest.append(argument)
    return raw, rest


def home_folders(cfg: dict[str, Any]) -> dict[str, Any]:
    """The options that are paths as they are on the disk: with `~` replaced, in the spelling that is there."""
    paths = {name: str(user_path(cfg[name])) for name in PATHS if isinstance(cfg[name], str) and cfg[name]}
    if isinstance(cfg["image"], list):
        paths["image"] = [str(user_path(image)) for image in cfg["image"]]  # type: ignore[assignment]
    return cfg | paths


def validate(cfg: dict[str, Any]) -> None:
    """Raise ValueError naming an option whose value is of the wrong kind."""
    for name, least in COUNTS.items():
        value = cfg[name]
        if name == "threads" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value}: a whole number, at least {least}, is needed")
        if name == "threads" and value > MAX_THREADS:  # torch takes any number, and crashes at a million
            raise ValueError(f"threads={value}: at most {MAX_THREADS}; more than the processors help nothing")
    for name in SWITCHES:
        if not isinstance(cfg[name], bool):
            raise ValueError(f"{name}={cfg[name]}: true or false")
    if cfg["text"] is not None and cfg["prompt"] is not None:
        raise ValueError("text= and prompt= are both the question: give one of them")
    if cfg["text"] is not None and not cfg["text"].strip():
        raise ValueError("text= is empty: write a question, or leave text= out to chat")


def find_export(ckpt: str | None, checkpoints: Path) -> Path:
    """The export folder. Raises ValueError listing the exports at hand where it is missing or wrong."""
    if ckpt and (is_export(ckpt) or Path(ckpt).is_file()):
        return Path(ckpt)
    found = (
        ", ".join(str(path) for path in list_exports(checkpoints)) or "none; python train.py stage=omni_sft makes one"
    )
    problem = f"ckpt={ckpt} is no export" if ckpt else "ckpt=EXPORT is missing"
    raise ValueError(f"{problem}; exports under {checkpoints}: {found}")


def run(cfg: dict[str, Any], *, given: Mapping[str, Any] | None = None) -> None:
    """Do what a composed configuration asks. given: those of its generation options that the user chose."""
    cfg = home_folders(cfg)
    validate(cfg)
    if cfg["threads"] is not None:
        torch.set_num_threads(cfg["threads"])
    export = find_export(cfg["ckpt"], Path(cfg["paths"]["checkpoints"]))
    if cfg["export"] is not None:
        reject_unused("the export", cfg, defaults())
        check_single_place(cfg["export"], sources=[export, *([cfg["talker"]] if cfg["talker"] else [])])
        whole = gather(export, talker=cfg["talker"])
        read_tokenizer(whole)  # refuses one that does not belong to it
        notice(f"written: {save_single(cfg['export'], whole)} ({', '.join(whole.parts)})")
        return
    engine = load_model(
        export,
        **{name: cfg[name] for name in ("device", "format", "talker", "vocoder", "compile", "dtype", "packages")},
    )
    options = preset("greedy", **cfg["generation"])  # which names an unknown option
    reject_unused_options(options, given or {})
    task = choose_task(cfg, engine.parts)
    if task != "a transcript" and (cfg["beams"] != 1 or cfg["lm"] is not None or cfg["timestamps"]):
        raise ValueError("beams=, lm= and timestamps= belong to a transcript: add transcribe=true and audio_in=FILE")
    reject_unused(task, cfg, defaults())
    if task == "a chat":
        chat(engine, options, cfg)
        return
    pictures: list[Any] = as_list(cfg["image"])
    if cfg["video"] is not None:
        pictures += read_video(cfg["video"], cfg["video_frames"], matte=engine.media.matte)
    if task == "reading":
        if not pictures:
            raise ValueError(f"{export}: this export reads the writing in pictures: give image=FILE")
        for picture in pictures:
            print(engine.read(picture))
        return
    if cfg["audio_out"] is not None:  # what is wrong with it is said before the answer is made
        engine.require_speaker().check_voice(cfg["voice"])
        check_sound_target(cfg["audio_out"])
    text = cfg["prompt"] or cfg["text"] or ""
    if task == "speech":
        if cfg["audio_out"] is None:
            raise ValueError(f"{export}: this export only speaks: name the sound file by audio_out=FILE")
        answer = text
    elif task == "a transcript":
        answer = transcribe(engine, cfg)
    else:
        answer = respond(engine, options, cfg, text, pictures)
    if cfg["audio_out"] is not None:
        spoken = engine.speak([answer], voices=[cfg["voice"]])[0]
        write_sound(cfg["audio_out"], spoken.waveform, engine.speech_rate)
        notice(f"spoken: {cfg['audio_out']}, {engine.vocoder_note}{engine.timings.cut_note()}")
    if not cfg["quiet"]:
        notice("\n".join(engine.timings.lines()))


def defaults() -> dict[str, Any]:
    """The options as conf/infer.yaml has them, and the preset that it names."""
    own: Any = OmegaConf.to_container(OmegaConf.load(CONF / "infer.yaml"))
    greedy = OmegaConf.to_container(OmegaConf.load(CONF / "generation" / "greedy.yaml"))
    return {name: value for name, value in own.items() if name not in ("defaults", "hydra")} | {"generation": greedy}


def respond(engine: Engine, options: GenerationOptions, cfg: dict[str, Any], text: str, pictures: list[Any]) -> str:
    """Stream one answer to standard output; gives it whole, without an echoed prompt."""
    asked = {
        "image": pictures,
        "audio": cfg["audio_in"],
        "system_prompt": cfg["system_prompt"],
        "truncate": cfg["truncate"],
        "generation": options,
    }
    if cfg["n_best"] > 1:
        return rank(engine, cfg, text, asked)
    pieces = engine.generate_stream(text, **asked)
    if cfg["echo"]:
        print(text, end=" ")
    written: list[str] = []
    for piece in pieces:
        print(piece, end="", flush=True)
        written.append(piece)
    print(flush=True)
    if not "".join(written).strip():
        notice("the answer is empty")
    if not cfg["quiet"] and cfg["audio_out"] is not None:
        notice("\n".join(engine.timings.lines()))
    return "".join(written)


def transcribe(engine: Engine, cfg: dict[str, Any]) -> str:
    """Write what a recording says to standard output; gives it as one text."""
    if cfg["audio_in"] is None:
        raise ValueError("transcribe=true needs audio_in=FILE")
    options = {name: cfg[name] for name in ("beams", "lm", "lm_weight")}
    if not cfg["timestamps"]:
        text = engine.transcribe(cfg["audio_in"], **options)
        print(text)
    else:
        transcript = engine.transcribe(cfg["audio_in"], timestamps=True, **options)
        text = transcript.text
        print("\n".join(transcript.lines()))
    if not text:
        notice(f"{cfg['audio_in']}: no words were heard")
    return text


def rank(engine: Engine, cfg: dict[str, Any], text: str, asked: dict[str, Any]) -> str:
    """The `n_best` answers of beam search to standard output, a line each behind its score; gives the best."""
    if cfg["n_best"] > asked["generation"].num_beams:
        raise ValueError(f"n_best={cfg['n_best']}: as many beams are needed, generation=beam generation.num_beams=N")
    answers = engine.generate_n_best([text], **asked)[0][: cfg["n_best"]]
    for answer, score in answers:
        print(f"{score:.4f}\t{' '.join(answer.split())}")
    return answers[0][0]


def chat(engine: Engine, options: GenerationOptions, cfg: dict[str, Any]) -> None:
    """The interactive chat."""
    speak_to = Path(cfg["audio_out"] or "reply.wav")
    Chat(
        engine,
        options=options,
        history=cfg["history"],
        system_prompt=cfg["system_prompt"],
        truncate=cfg["truncate"],
        speak=cfg["speak"] or cfg["audio_out"] is not None,
        speak_to=speak_to,
        voice=cfg["voice"],
        quiet=cfg["quiet"],
    ).run()


def notice(text: str) -> None:
    """To standard error, which holds everything but the answer."""
    if text:
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Command line -> configuration -> `run`. A user's mistake is one line and exit status 1."""
    with one_line_errors():
        raw, rest = split_arguments([each for word in sys.argv[1:] for each in aliases.override(word)])
    chosen = [word.partition("=")[0].removeprefix("generation.") for word in rest if word.startswith("generation.")]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="infer")
    @one_line_errors()
    def composed(cfg: DictConfig) -> None:
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        given = {name: plain["generation"][name] for name in chosen if name in plain["generation"]}
        run({str(key): value for key, value in plain.items()} | raw, given=given)

    sys.argv[1:] = rest
    # It says on a CPU that there is no GPU, in the middle of what compiling says.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows few characters shows the others as ?
    run_main(composed, config="infer", removable=())


if __name__ == "__main__":
    main()
