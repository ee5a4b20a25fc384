"""Pure layers: torch only; no configuration, I/O, logging or global state."""
