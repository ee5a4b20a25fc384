"""User mistakes as one line instead of a traceback; an unknown name is answered with the available ones."""

import errno
import logging.config
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from muomni import aliases
from muomni.cli import ablations, help
from muomni.cli.endings import quiet_endings
from muomni.cli.help import CONF
from muomni.cli.overrides import parse, readable
from muomni.short_repr import shown
from muomni.user_path import with_home

LONGEST = 300  # characters shown of a message of Hydra's
#: User mistakes: their message says what, where and how to fix it. A bug keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, RuntimeError)
#: Lightning's error for incompatible options, which is no subclass of those.
LIGHTNINGS = "MisconfigurationException"
#: Errors of a full disk, of an invalid file name, or of a folder without write permission.
DISK_ERRORS = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)

MULTIRUN = ("-m", "--multirun")


def run_main(main: Callable[[], Any], *, config: str, removable: tuple[str, ...]) -> None:
    """Check the overrides and run `main`; report user mistakes in one line. removable: the groups with optional
    entries, which `~callbacks.ema` removes."""
    help.ready()
    with one_line_errors():
        sys.argv[1:] = words = read_words(sys.argv[1:], config=config, removable=removable)
        problem = None if is_multirun(words) else check_overrides(words, config=config)
        if problem:
            raise ValueError(problem)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        main()


def run_once(task: Callable[[DictConfig], None], *, config: str) -> None:
    """As `run_main`, for a program without a run folder: its configuration is composed once, not three times as by `hydra.main`,
    which is left to Hydra's own flags (--help, --cfg, -m, ..)."""
    help.ready()
    with one_line_errors():
        sys.argv[1:] = words = read_words(sys.argv[1:], config=config, removable=())
        flags = any(word.startswith("-") for word in words)
        composed = None if is_multirun(words) else _compose(words, config=config)
        if flags or composed is None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)(one_line_errors()(task))()
            return
        plain: Any = OmegaConf.to_container(composed.hydra.job_logging, resolve=True)
        logging.config.dictConfig(plain)
        with flag_override(composed, ["struct", "readonly"], False):
            del composed["hydra"]
        task(composed)


def read_words(words: list[str], *, config: str, removable: tuple[str, ...]) -> list[str]:
    """Words of a command line in Hydra's grammar, names of earlier versions replaced. Raises ValueError for one that is no
    option. config, removable: as of `run_main`."""
    words = [with_home(word) for word in words]
    if config == "train":
        ablations.register()
    multirun = is_multirun(words)
    current = [each for word in words for each in aliases.override(word)]
    words = [each for word in current for each in readable(word, multirun=multirun)]
    for before, word in pairwise(["", *words]):
        if word.startswith("~"):
            _check_removal(word, removable)
        elif "=" not in word and not word.startswith("-") and not before.startswith("-"):  # or a flag's value
            raise ValueError(
                f"{word!r} is no option: give NAME=VALUE, with quotes around a value that holds spaces; "
                "--help lists the options"
            )
    return sorted(words, key=lambda word: word not in MULTIRUN)  # between others argparse takes it for the last word


def is_multirun(words: list[str]) -> bool:
    """Whether a command trains a list of configurations."""
    return any(word in MULTIRUN for word in words)


def _check_removal(word: str, removable: tuple[str, ...]) -> None:
    """Raise ValueError for `~NAME` of a required entry."""
    group, _, entry = word[1:].partition("=")[0].partition(".")
    if group in removable and entry:
        return
    possible = " or ".join(f"~{name}.NAME" for name in removable)
    hint = f"; what can be is {possible}" if possible else ""
    raise ValueError(f"{word}: this option cannot be taken away, only be given another value, NAME=VALUE{hint}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user mistake into one line and exit code 1, Ctrl-C into 130. MUOMNI_TRACEBACK=1 shows the traceback.

    Also a decorator, below `hydra.main`: Hydra adds lines to an exception that reaches it.
    """
    with quiet_endings():
        try:
            yield
        except BrokenPipeError:
            raise
        except Exception as error:
            mistake = one_line(error)
            if mistake is None or os.environ.get("MUOMNI_TRACEBACK"):
                raise
            hint = " (MUOMNI_TRACEBACK=1 shows where)" if isinstance(error, RuntimeError) else ""
            sys.exit(f"error: {' '.join(mistake.split())}{hint}")


def one_line(error: Exception) -> str | None:
    """A user mistake in one line; None for a bug. Hydra wraps what the constructor of a `_target_` raises."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        place = "" if error.filename is None else f": {shown(error.filename, str)}"
        return f"{error.strerror}{place}" if error.errno in DISK_ERRORS else None
    if isinstance(error, USER_ERRORS) or type(error).__name__ == LIGHTNINGS:
        return str(error)
    if not isinstance(error, InstantiationException):
        return None
    cause = error.__cause__
    if not isinstance(cause, (*USER_ERRORS, TypeError)) and type(cause).__name__ != LIGHTNINGS:
        return None
    where = [line.split(":", 1)[1].strip() for line in str(error).splitlines() if line.startswith("full_key:")]
    return ": ".join([*where, str(error.__cause__)])


def check_overrides(overrides: list[str], *, config: str) -> str | None:
    """Compose the configuration. Return the mistake in the overrides in one line, or None. Flags among them are left out."""
    try:
        _compose(overrides, config=config)
    except ValueError as error:
        return str(error)
    return None


def _compose(overrides: list[str], *, config: str) -> DictConfig:
    """The configuration, Hydra's own with it. Flags are left out. Raises ValueError with the mistake in one line."""
    overrides = [word for word in overrides if word.startswith("~") or ("=" in word and word[0] != "-")]
    for override in overrides:
        group, equals, value = override.partition("=")
        if equals and _is_group(override) and _holds_no_names(value):
            there = ", ".join(help.choices(group.lstrip("+")))
            raise ValueError(f"{shown(override, str)}: the name of a configuration is needed; available: {there}")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(config, overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # of a group=null, for one
        raise ValueError(_explain(error, overrides, config)) from error
    finally:
        GlobalHydra.instance().clear()


def _explain(error: Exception, overrides: list[str], config: str) -> str:
    message = "\n".join(str(link) for link in (error, error.__cause__) if link is not None)
    if lost := re.search(r"Could not load '(\w+)/([^']+)'", message):  # in a list, of which Hydra names no choices
        return f"{lost[1]}={shown(lost[2], str)}: there is none of this name; available: {', '.join(help.choices(lost[1]))}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    available = [line for line in lines if not line.startswith(("full_key", "object_type", "To append"))]
    key = _unknown_key(message)
    if key is None:
        said = "; ".join(line if len(line) <= LONGEST else f"{line[:LONGEST]}..." for line in available[:40])
        named = any(part in said for override in overrides for part in override.split("=", 1) if part)
        groups = [override for override in overrides if _is_group(override)]
        return said if named else f"{shown(' '.join(groups or overrides), str)}: {said}"
    groups = [o for o in overrides if _is_group(o)]  # they say which options there are
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            node: Any = compose(config, overrides=groups)
        except HydraException:  # a group of the other program's is what is unknown
            node = compose(config)
    *parents, name = key.split(".")
    for depth, step in enumerate(parents):
        if not isinstance(node.get(step), DictConfig):
            parents, name = parents[:depth], step
            break
        node = node[step]
    where = ".".join(parents) or "the top level"
    return f"unknown option {name!r} in {where}; available: {', '.join(sorted(map(str, node)))}"


def _holds_no_names(value: str) -> bool:
    """Whether the value of a group, as Hydra reads it, is or holds anything but names: it would raise a TypeError of its own."""
    override = parse("group", value)
    if override is None:  # compose says what is wrong with it
        return False
    parsed = override.value()
    names = parsed if isinstance(parsed, list) else [parsed]
    return parsed is not None and not all(isinstance(name, str | QuotedString) for name in names)


def _is_group(override: str) -> bool:
    """Whether an override chooses a file of a group, as data=text; optim={lr: 1} gives options inside the group."""
    group, _, value = override.lstrip("+").partition("=")
    group = group.split("@", 1)[0]
    return not value.lstrip().startswith("{") and (
        "/" in group or (group != "" and "." not in group and (group == "ablation" or (CONF / group).is_dir()))
    )


def _unknown_key(message: str) -> str | None:
    """The full key of an override that does not exist, from Hydra's message."""
    if "not in struct" not in message:
        return None
    found = [line.split("'")[1] for line in message.splitlines() if "Could not override '" in line]
    found += [line.split(":", 1)[1].strip() for line in message.splitlines() if line.strip().startswith("full_key:")]
    return max(found, key=len, default=None)  # a mapping as a value: the key inside it that is unknown
