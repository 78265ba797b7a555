"""DeepSpeed: the process group, the wrapped module, one step, what is saved. Nothing else imports deepspeed."""

from bench.training.engine.configuration import DTYPES
from bench.training.engine.engine import LINEAR, Engine, restore
from bench.training.engine.world import World
from bench.training.engine.zero3 import Partitioning, gathered, size

__all__ = ["DTYPES", "LINEAR", "Engine", "Partitioning", "World", "gathered", "restore", "size"]
