"""The embedded world: text, pictures, speech and instructions about one small world, generated from a seed."""

from datamodules.world.build import PARTS, build_world, world_root
from datamodules.world.captions import parse_caption
from datamodules.world.prompts import TASK_SHARES
from datamodules.world.spec import WorldSpec
from datamodules.world.verify import verify_world

__all__ = ["PARTS", "TASK_SHARES", "WorldSpec", "build_world", "parse_caption", "verify_world", "world_root"]
