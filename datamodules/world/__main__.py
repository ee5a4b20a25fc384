"""`python -m datamodules.world build|verify`: make a world, or check one that is there.

build [--root data] [--preset small] [--parts text,pictures,..] [FIELD=VALUE ..]     FIELD: any of WorldSpec
verify FOLDER
"""

import argparse
import sys
from typing import Any

from datamodules.world.build import PARTS, build_world
from datamodules.world.spec import PRESETS, WorldSpec
from datamodules.world.verify import describe_world, verify_world
from muomni.user_path import user_path


def parse_fields(fields: list[str]) -> dict[str, Any]:
    """`["seed=3", "level=hard"]` -> {"seed": 3, "level": "hard"}. Raises ValueError for anything else."""
    values: dict[str, Any] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            raise ValueError(f"world: {field!r} is not FIELD=VALUE (as seed=3)")
        kind = WorldSpec.__dataclass_fields__[name].type if name in WorldSpec.__dataclass_fields__ else str
        try:
            values[name] = kind(value) if callable(kind) else value
        except ValueError as error:
            raise ValueError(f"world: {name}={value!r} must be of type {getattr(kind, '__name__', kind)}") from error
    return values


def main(arguments: list[str]) -> int:
    """Run a command; 0 when it succeeded, 1 when a world is wrong, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m datamodules.world", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a world where it does not exist yet")
    build.add_argument("--root", default="data", type=user_path)
    build.add_argument("--preset", default="small", choices=PRESETS)
    build.add_argument("--parts", default=",".join(PARTS))
    build.add_argument("fields", nargs="*", metavar="FIELD=VALUE")
    verify = commands.add_parser("verify", help="check fingerprint, splits and balance")
    verify.add_argument("folder", type=user_path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "build":
            spec = WorldSpec.of(options.preset, **parse_fields(options.fields))
            print(describe_world(build_world(spec, options.root, parts=options.parts.split(","))))
            return 0
        problems = verify_world(options.folder)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    for problem in problems[:50]:
        print(problem)
    print(f"{options.folder}: " + (f"{len(problems)} problems" if problems else "verified"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
