"""The embedded world: text, pictures, speech and instructions about one small world, generated from a seed."""

from datamodules.world.build import PARTS, build_world, world_root
from datamodules.world.spec import WorldSpec

__all__ = ["PARTS", "WorldSpec", "build_world", "world_root"]
