"""`python -m datamodules.world build|verify`: make a world, or check one that is there.

build [--root data] [--preset small] [--subsets text,pictures,..] [FIELD=VALUE ..]     FIELD: any of WorldSpec
verify FOLDER
"""

import argparse
import dataclasses

from datamodules.world.build import SUBSETS, build_world
from datamodules.world.spec import PRESETS, WorldSpec
from datamodules.world.verify import describe_world, verify_world
from muomni.cli.key_value import read_options, run_program
from muomni.user_path import user_path


def main(arguments: list[str]) -> int:
    """Run a command; 0 when it succeeded, 1 when a world is wrong."""
    parser = argparse.ArgumentParser(prog="python -m datamodules.world", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a world where it does not exist yet")
    build.add_argument("--root", default="data", type=user_path)
    build.add_argument("--preset", default="small", choices=PRESETS)
    build.add_argument("--subsets", "--parts", default=",".join(SUBSETS))
    build.add_argument("fields", nargs="*", metavar="FIELD=VALUE")
    verify = commands.add_parser("verify", help="check fingerprint, splits and balance")
    verify.add_argument("folder", type=user_path)
    options = parser.parse_args(arguments)
    if options.command == "build":
        fields = dataclasses.asdict(WorldSpec.of(options.preset))
        del fields["preset"]
        spec = WorldSpec.of(options.preset, **read_options(options.fields, fields))
        print(describe_world(build_world(spec, options.root, subsets=options.subsets.split(","))))
        return 0
    problems = verify_world(options.folder)
    for problem in problems[:50]:
        print(problem)
    print(f"{options.folder}: " + (f"{len(problems)} problems" if problems else "verified"))
    return 1 if problems else 0


if __name__ == "__main__":
    run_program(main)
