"""Many parameters in few words: by the modules that hold nothing else."""

from collections.abc import Collection, Iterable

SHOWN = 4


def modules_of(chosen: Collection[str], everything: Iterable[str]) -> str:
    """The names of parameters, shortened to the largest modules all of whose parameters (of `everything`) are among them:
    "model.heads.1, model.norm.weight and 3 more"."""
    others = {prefix for name in set(everything) - set(chosen) for prefix in _prefixes(name)}
    shown = dict.fromkeys(next(p for p in [*_prefixes(name), name] if p not in others) for name in chosen)
    names = list(shown)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _prefixes(name: str) -> list[str]:
    """ "a.b.c" -> "a", "a.b"."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
