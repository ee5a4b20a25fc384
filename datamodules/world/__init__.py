"""The embedded world: text, pictures, speech and instructions about one small world, generated from a seed."""

from datamodules.world.build import SUBSETS, build_world
from datamodules.world.spec import WorldSpec
from datamodules.world.verify import verify_world

__all__ = ["SUBSETS", "WorldSpec", "build_world", "verify_world"]
