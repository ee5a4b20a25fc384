"""Start of a program, before torch is imported, which takes seconds: --help answers at once, Ctrl-C prints no traceback."""

import os
import re
import signal
import sys
import textwrap
import time
from types import FrameType

from muomni.program import INFER, ROOT, SERVE, TRAIN

CONF = ROOT / "conf"
HELP = ("--help", "-h")
BEGUN = time.perf_counter()  # of the program: this module comes first

#: <group> stands for the names in conf/group, <options> for the options of a configuration, a line each. The scripts of a
#: checkout stand for the commands of an installed package.
USAGE = {
    "infer": """\
usage: python infer.py ckpt=EXPORT [NAME=VALUE ...]

EXPORT: a folder under checkpoints/, a single .safetensors, or a training's .ckpt. What is given decides what is done:

  (nothing)                        chat; /help lists its commands
  text="..."                       answer a question
  image=FILE, video=FILE           look at it; text="..." asks, else it is described (by stage=ocr: its writing read)
  audio_in=FILE                    listen to it; text="..." asks, else it is written down
  transcribe=true audio_in=FILE    write what is said, by the recognizer alone; beams=16 lm=FILE timestamps=true
  audio_out=FILE                   speak the answer into a wav file; talker=EXPORT voice=N
  export=FILE                      write all modules into one .safetensors

The answer goes to standard output, everything else to standard error. Strings are taken just as the shell passes them.

examples:
  python infer.py ckpt=checkpoints/omni_sft
  python infer.py ckpt=checkpoints/omni_sft text="where is the red circle?" image=a.png
  python infer.py ckpt=checkpoints/omni_sft text="tell me a story" generation=chat generation.seed=3
  python infer.py ckpt=checkpoints/audio audio_in=a.wav timestamps=true
  python infer.py ckpt=checkpoints/talker text="the red circle" audio_out=said.wav

how an answer is chosen:
  generation=<generation>; generation.temperature=0.7 and the like change one value (docs/inference.md)

options, with their defaults:
<options>
""",
    "serve": """\
usage: python serve.py ckpt=EXPORT [NAME=VALUE ...]

Serves an export over HTTP by OpenAI's API, on http://127.0.0.1:8000/v1, with a page to talk to it at / (docs/serving.md).
Ctrl-C stops it: running answers may end first.

examples:
  python serve.py ckpt=checkpoints/omni_sft
  python serve.py ckpt=checkpoints/omni_sft open=true generation=chat
  MUOMNI_KEY=... python serve.py ckpt=checkpoints/omni_sft host=0.0.0.0

how an answer is chosen, where a request does not say:
  generation=<generation>; generation.temperature=0.7 and the like change one value (docs/inference.md)

options, with their defaults:
<options>
""",
    "train": """\
usage: python train.py stage=STAGE [NAME=VALUE ...]

Trains a stage and what it needs first, measures it, and leaves an export, checkpoints/STAGE, and a run folder,
runs/STAGE/TIME. Ctrl-C saves first; the same command resumes from there.

  stage=       <stage>
  size=        <size>
  budget=      <budget>
  data=        <data>
  experiment=  <experiment>
  ablation=    <ablation>
  tag=         a name for what else is changed: tag=NAME backbone.thinker.window=64 leaves checkpoints/STAGE-NAME
  trainer=     <trainer>
  logger=      <logger>; several: logger=[csv,wandb]
  optim=       <optim>

Any value under conf/ is changed by its path: optim.lr=3e-4. --cfg job shows the whole configuration, -m trains a list of them.

examples:
  python train.py stage=omni_sft
  python train.py stage=thinker size=small data=text data.train=train.txt data.val=val.txt
  python train.py stage=audio task=test ckpt=checkpoints/audio data=speech data.test=recordings.jsonl
  python train.py -m stage=thinker optim.lr=1e-3,3e-4

options, with their defaults:
<options>
""",
}
WIDTH, INDENT = 100, 15  # of a list of names


def begin(program: str) -> None:
    """First call of `infer.py`, `serve.py` and `train.py`: prints the help if requested, and silences Ctrl-C from then on."""
    if any(argument in HELP for argument in sys.argv[1:]):
        print(usage(program), end="")
        sys.exit(0)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored
        signal.signal(signal.SIGINT, leave)


def leave(number: int, frame: FrameType | None) -> None:
    """Exit at once: some modules catch an exception raised while they are imported, others print it."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def ready() -> None:
    """Make Ctrl-C a KeyboardInterrupt again: from here on it is caught, and there is something to clean up."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def usage(program: str) -> str:
    """The help of a program, with the names found in conf/."""

    def names(found: re.Match[str]) -> str:
        group = found.group(1)
        if group == "options":
            return options((CONF / f"{program}.yaml").read_text())
        known = " | ".join(choices(group))
        return f"\n{' ' * INDENT}".join(textwrap.wrap(known, WIDTH))

    text = (
        USAGE[program]
        .replace("python train.py", TRAIN)
        .replace("python infer.py", INFER)
        .replace("python serve.py", SERVE)
    )
    return re.sub(r"<(\w+)>", names, text)


def choices(group: str) -> list[str]:
    """The choices of a group: files of conf/GROUP, or what conf/ablations.yaml names."""
    if group == "ablation":
        return re.findall(r"^(\w+):", (CONF / "ablations.yaml").read_text(), flags=re.MULTILINE)
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def options(text: str) -> str:
    """A configuration file -> its commented options, a line each; null is an empty value."""
    found = re.findall(r"^(\w+): +(\S+) +# (.*)$", text, flags=re.MULTILINE)
    shown = {"null": "", '""': ""}
    return "\n".join(f"  {name + '=' + shown.get(value, value):<31}  {comment}" for name, value, comment in found)
