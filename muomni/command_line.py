"""One clear line instead of a traceback, for mistakes of the user; also the list of what a wrong name could have been."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).resolve().parent.parent / "conf"

#: Mistakes of input: their text says what, where and how to mend it. A bug keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, RuntimeError)


def run_main(main: Callable[[], Any], *, config: str) -> None:
    """Check the overrides, run `main`, and turn a user's mistake into one line and exit code 1 (Ctrl-C: 130).

    MUOMNI_TRACEBACK=1 shows the traceback instead.
    """
    overrides = [argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("-")]
    multirun = any(argument in ("-m", "--multirun") for argument in sys.argv[1:])
    problem = None if multirun else check_overrides(overrides, config=config)
    if problem:
        sys.exit(f"error: {problem}")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except USER_ERRORS as error:
        if os.environ.get("MUOMNI_TRACEBACK"):
            raise
        sys.exit(f"error: {error}")


def check_overrides(overrides: list[str], *, config: str) -> str | None:
    """Compose the configuration; what is wrong with the overrides in one line, or None."""
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose(config, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        return _explain(error, overrides, config)
    finally:
        GlobalHydra.instance().clear()
    return None


def _explain(error: Exception, overrides: list[str], config: str) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    available = [line for line in lines if not line.startswith(("full_key", "object_type", "To append"))]
    key = _unknown_key(str(error))
    if key is None:
        return "; ".join(available[:12])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node: Any = compose(config, overrides=[o for o in overrides if not o.startswith(key.split(".")[0] + ".")])
    parent, _, name = key.rpartition(".")
    for step in parent.split(".") if parent else []:
        node = node.get(step) if isinstance(node, DictConfig) else None
    known = ", ".join(sorted(map(str, node))) if isinstance(node, DictConfig) else "nothing"
    return f"unknown option {name!r} in {parent or 'the top level'}; available: {known}"


def _unknown_key(message: str) -> str | None:
    """The full key of an override that names nothing, from Hydra's own message."""
    if "not in struct" not in message:
        return None
    for line in message.splitlines():
        if "Could not override '" in line:
            return line.split("'")[1]
        if line.strip().startswith("full_key:"):
            return line.split(":", 1)[1].strip()
    return None
