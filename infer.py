"""Answer, transcribe, speak or chat with an export: the composition root of inference. Answers go to standard output."""

import contextlib
import io
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

if __name__ == "__main__":  # the imports below take seconds
    from muomni.cli import help

    help.begin("infer")

import torch
from omegaconf import DictConfig, OmegaConf

from muomni import aliases
from muomni.checkpoints.single_file import check_single_place, save_single
from muomni.cli.errors import CONF, one_line_errors, run_once
from muomni.cli.verbatim import split_arguments
from muomni.frontends.audio_io import check_audio_target
from muomni.inference.asr.transcript import FORMS
from muomni.inference.cli.batch_file import BatchFile
from muomni.inference.cli.sound_out import (
    FileSound,
    SoundOut,
    StreamSound,
    checked_voice,
    speak,
    spoken_pieces,
    voice_given,
    voice_options,
)
from muomni.inference.cli.standard_streams import STREAM, binary_output, read_streams
from muomni.inference.cli.tasks import Task, choose_task, reject_unused
from muomni.inference.cli.transcripts import transcribe
from muomni.inference.decoding.options import GenerationOptions, preset, reject_unused_options
from muomni.inference.decoding.timings import Timings
from muomni.inference.engine import Engine
from muomni.inference.load import find_export, load_model, read_modules, read_tokenizer
from muomni.inference.prompt import as_list
from muomni.serving.audio_format import make_encoder
from muomni.user_path import user_path

PATHS = (
    "ckpt", "talker", "vocoder", "image", "video", "audio_in", "packages", "lm", "export", "audio_out", "batch", "out",
)  # fmt: skip
STRINGS = (*PATHS, "text", "prompt", "system_prompt", "player", "voice")
#: Whole numbers and their minimum.
COUNTS = {"video_frames": 1, "n_best": 1, "beams": 1, "threads": 1, "batch_size": 1}
MAX_THREADS = 1024
SWITCHES = ("transcribe", "live", "timestamps", "history", "speak", "echo", "truncate", "quiet")


def resolve_paths(cfg: dict[str, Any]) -> dict[str, Any]:
    """A copy with `muomni.user_path` applied to the path options."""
    given = {name: cfg[name] for name in PATHS if isinstance(cfg[name], str) and cfg[name] not in ("", STREAM)}
    paths = {name: str(user_path(path)) for name, path in given.items()}
    if isinstance(cfg["image"], list):
        paths["image"] = [str(user_path(image)) for image in cfg["image"]]  # type: ignore[assignment]
    return cfg | paths | {"voice": voice_given(cfg["voice"])}


def validate(cfg: dict[str, Any]) -> None:
    """Raise ValueError naming an option with a value of the wrong type or out of range."""
    for name, minimum in COUNTS.items():
        value = cfg[name]
        if name == "threads" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name}={value}: a whole number, at least {minimum}, is needed")
        if name == "threads" and value > MAX_THREADS:  # torch takes any number, and crashes at a million
            raise ValueError(f"threads={value}: at most {MAX_THREADS}; more threads than processors do not help")
    for name in SWITCHES:
        if not isinstance(cfg[name], bool):
            raise ValueError(f"{name}={cfg[name]}: true or false")
    if cfg["transcript"] not in FORMS:
        raise ValueError(f"transcript={cfg['transcript']}: one of {', '.join(FORMS)} is needed")
    if cfg["timestamps"] and cfg["transcript"] != "text":
        raise ValueError(
            f"timestamps=true is a form of text, transcript={cfg['transcript']} another: leave out one of them"
        )
    if (cfg["batch"] is None) != (cfg["out"] is None):
        raise ValueError("batch=FILE.jsonl and out=FILE.jsonl belong together: requests and answers")
    if cfg["text"] is not None and cfg["prompt"] is not None:
        raise ValueError("text= and prompt= both hold the question: give one of them")
    if cfg["text"] is not None and not cfg["text"].strip():
        raise ValueError("text= is empty: write a question, or leave text= out to chat")


def run(cfg: dict[str, Any], *, given: Mapping[str, Any] | None = None) -> None:
    """Run the task of a composed configuration. given: the generation options that the user set."""
    if cfg["audio_out"] != STREAM:
        run_task(cfg, given=given, sound=None)
        return
    sound = binary_output()
    with contextlib.redirect_stdout(sys.stderr):  # nothing but the audio may be on standard output
        run_task(cfg, given=given, sound=sound)


def run_task(cfg: dict[str, Any], *, given: Mapping[str, Any] | None, sound: BinaryIO | None) -> None:
    """`run`. sound: where the audio of audio_out=- goes."""
    cfg = resolve_paths(cfg)
    validate(cfg)
    cfg = read_streams(cfg)
    if cfg["threads"] is not None:
        torch.set_num_threads(cfg["threads"])
    export = find_export(cfg["ckpt"], Path(cfg["paths"]["checkpoints"]))
    if cfg["export"] is not None:
        reject_unused(Task.EXPORT, cfg, defaults())
        check_single_place(cfg["export"], sources=[export, *([cfg["talker"]] if cfg["talker"] else [])])
        whole = read_modules(export, talker=cfg["talker"])
        read_tokenizer(whole)  # raises for a tokenizer that does not match
        notice(f"written: {save_single(cfg['export'], whole)} ({', '.join(whole.modules)})")
        return
    engine = load_model(
        export,
        **{name: cfg[name] for name in ("device", "format", "talker", "vocoder", "compile", "dtype", "packages")},
    )
    options = preset("greedy", **cfg["generation"])  # raises for an unknown option
    if options.logprobs is not None:
        raise ValueError(f"generation.logprobs={options.logprobs} is for Python (docs/inference.md): leave it out")
    reject_unused_options(options, given or {})
    task = choose_task(cfg, engine.modules)
    if task is not Task.TRANSCRIBE and (cfg["beams"] != 1 or cfg["lm"] is not None or cfg["timestamps"]):
        raise ValueError("beams=, lm= and timestamps= belong to a transcript: add transcribe=true and audio_in=FILE")
    reject_unused(task, cfg, defaults())
    if task is Task.BATCH:
        answer_batch(engine, options, cfg)
        return
    if task is Task.CHAT:
        if sound is not None:
            raise ValueError("audio_out=-: a chat writes to standard output itself: name a file")
        chat(engine, options, cfg)
        return
    do_task(engine, task, options, cfg, sound)


def do_task(
    engine: Engine, task: Task, options: GenerationOptions, cfg: dict[str, Any], sound: BinaryIO | None
) -> None:
    """Read, speak, transcribe or answer what the command line holds."""
    images: list[Any] = as_list(cfg["image"])
    if cfg["video"] is not None:
        from muomni.frontends.video import read_video

        images += read_video(cfg["video"], cfg["video_frames"], matte=engine.media.matte)
    if task is Task.OCR:
        if not images:
            raise ValueError(f"{engine.where}: this export reads the text in images: give image=FILE")
        for image in images:
            print(engine.read(image))
        return
    if cfg["audio_out"] is not None:  # fail before the answer is generated
        cfg = cfg | checked_voice(engine, cfg)
        if sound is None:
            check_audio_target(cfg["audio_out"])
    out: SoundOut | None = None
    if cfg["audio_out"] is not None:
        rate = engine.speech_rate
        out = FileSound(cfg["audio_out"], rate) if sound is None else StreamSound(sound, make_encoder("wav", rate))
    text, timings = cfg["prompt"] or cfg["text"] or "", Timings()
    if task is Task.SPEAK:
        if cfg["audio_out"] is None:
            raise ValueError(f"{engine.where}: this export only speaks: name the audio file by audio_out=FILE")
        answer = text
    elif task is Task.TRANSCRIBE:
        answer, timings = transcribe(engine, cfg)
    else:
        answer, timings = respond(engine, options, cfg, text, images, out)
    if out is not None:
        if task is not Task.ANSWER or cfg["n_best"] > 1:
            timings = speak(engine, cfg, answer, out)
        out.close()
        notice(f"spoken: {cfg['audio_out']}, {engine.vocoder_note}{timings.cut_note()}")
    if not cfg["quiet"]:
        notice("\n".join(timings.lines()))


def answer_batch(engine: Engine, options: GenerationOptions, cfg: dict[str, Any]) -> None:
    """Answer the requests of a file into another one."""
    batch = BatchFile(
        engine, Path(cfg["batch"]), options=options, system_prompt=cfg["system_prompt"], truncate=cfg["truncate"],
        size=cfg["batch_size"],
    )  # fmt: skip
    for answered, total in batch.answer_into(Path(cfg["out"])):
        if not cfg["quiet"]:
            notice(f"{answered} of {total} requests")
    failed = f", {batch.failed} of them errors" if batch.failed else ""
    notice(f"written: {cfg['out']}{failed}")


def defaults() -> dict[str, Any]:
    """The options of conf/infer.yaml, with the preset that it names."""
    own: Any = OmegaConf.to_container(OmegaConf.load(CONF / "infer.yaml"))
    greedy = OmegaConf.to_container(OmegaConf.load(CONF / "generation" / "greedy.yaml"))
    options = {name: value for name, value in own.items() if name not in ("defaults", "hydra", "paths")}
    return options | {"generation": greedy}


def respond(
    engine: Engine, options: GenerationOptions, cfg: dict[str, Any], text: str, images: list[Any], out: SoundOut | None
) -> tuple[str, Timings]:
    """Stream one answer to standard output, and its speech, while it is written, to `out`; returns it, without an echoed
    prompt."""
    request = {
        "image": images,
        "audio": cfg["audio_in"],
        "system_prompt": cfg["system_prompt"],
        "truncate": cfg["truncate"],
        "generation": options,
    }
    if cfg["n_best"] > 1:
        return write_n_best(engine, cfg, text, request)
    stream = engine.answer_stream(text, **request)
    if cfg["echo"]:
        print(text, end=" ")
    written, speech = list[str](), Timings()
    pieces, failed = stream.texts(), list[str]()
    if out is not None:
        pieces = spoken_pieces(engine, pieces, out, failed=failed.append, **voice_options(cfg), timings=speech)
    for piece in pieces:
        print(piece, end="", flush=True)
        written.append(piece)
    print(flush=True)
    notice("\n".join(failed))
    if not "".join(written).strip():
        notice("the answer is empty")
    if not cfg["quiet"] and cfg["audio_out"] is not None:
        notice("\n".join(stream.timings.lines()))
    return "".join(written), stream.timings if out is None else speech


def write_n_best(engine: Engine, cfg: dict[str, Any], text: str, request: dict[str, Any]) -> tuple[str, Timings]:
    """Write the `n_best` answers of beam search to standard output, a line of score and answer each; returns the best."""
    if cfg["n_best"] > request["generation"].num_beams:
        raise ValueError(f"n_best={cfg['n_best']}: as many beams are needed, generation=beam generation.num_beams=N")
    best = engine.n_best([text], **request)
    answers = best.rows[0][: cfg["n_best"]]
    for answer, score in answers:
        print(f"{score:.4f}\t{' '.join(answer.split())}")
    return answers[0][0], best.timings


def chat(engine: Engine, options: GenerationOptions, cfg: dict[str, Any]) -> None:
    """Run the interactive chat."""
    from muomni.inference.cli.chat import Chat  # a terminal's libraries, which no other task needs
    from muomni.inference.cli.player import Player

    player = None
    if cfg["player"] is not None:
        player = Player(cfg["player"], lambda: make_encoder("wav", engine.speech_rate))
        if cfg["audio_out"] is not None:
            raise ValueError("player= plays the answers, audio_out= writes them to a file: give one of them")
    Chat(
        engine,
        options=options,
        history=cfg["history"],
        system_prompt=cfg["system_prompt"],
        truncate=cfg["truncate"],
        speak=cfg["speak"] or cfg["audio_out"] is not None or player is not None,
        speak_to=cfg["audio_out"] or "reply.wav",
        player=player,
        how=voice_options(cfg),
        quiet=cfg["quiet"],
    ).run()


def notice(text: str) -> None:
    """Print to standard error, which holds everything but the answer."""
    if text:
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Command line -> configuration -> `run`. A user's mistake is one line and exit status 1."""
    with one_line_errors():
        words = [each for word in sys.argv[1:] for each in aliases.override(word)]
        raw, rest = split_arguments(words, strings=STRINGS, repeatable=("image",))
    changed = [word.partition("=")[0].removeprefix("generation.") for word in rest if word.startswith("generation.")]

    def composed(cfg: DictConfig) -> None:
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        given = {name: plain["generation"][name] for name in changed if name in plain["generation"]}
        run({str(key): value for key, value in plain.items()} | raw, given=given)

    sys.argv[1:] = rest
    # On a CPU it warns that there is no GPU, in the middle of the lines about compiling.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? for unknown characters
    run_once(composed, config="infer")


if __name__ == "__main__":
    main()
