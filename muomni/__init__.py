"""muomni: a small omni model that reads, sees, hears and speaks, trained from random weights."""

from typing import TYPE_CHECKING, Any

from muomni import aliases

if TYPE_CHECKING:
    from muomni.inference.load import load_model

__version__ = "0.2.0"
__all__ = ["load_model"]

aliases.install()


def __getattr__(name: str) -> Any:
    """Load the engine on first use, so that a training run's imports stay light."""
    if name in __all__:
        from muomni.inference import load

        return getattr(load, name)
    raise AttributeError(f"module 'muomni' has no attribute {name!r}")
