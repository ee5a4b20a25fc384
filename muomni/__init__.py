"""muomni: a small omni model that reads, sees, hears and speaks, trained from random weights."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muomni.inference.engine import Engine, load_model

__all__ = ["Engine", "load_model"]


def __getattr__(name: str) -> Any:
    """Load the engine on first use, so that a training run's imports stay light."""
    if name in __all__:
        from muomni.inference import engine

        return getattr(engine, name)
    raise AttributeError(f"module 'muomni' has no attribute {name!r}")
