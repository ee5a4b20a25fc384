"""Which rows of an instruction manifest are used, and which of them share a conversation."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.manifests import say_left_out
from muomni.frontends.chat import media_of, text_of

log = logging.getLogger(__name__)


def without_pictures(rows: list[dict[str, Any]], *, what: str) -> list[dict[str, Any]]:
    """The rows that hold no picture; how many do is said in the log, under the name `what`."""
    kept = [row for row in rows if not media_of(row["messages"])[0]]
    if len(kept) < len(rows):
        count = len(rows) - len(kept)
        log.warning("%s: %d of %d rows hold pictures and are left out (image_tokens=none)", what, count, len(rows))
    return kept


def evenly(kinds: Sequence[str], shares: Mapping[str, float], *, default: float) -> np.ndarray:
    """Choose a fraction of each kind (`default` of those not named), evenly spread -> (len(kinds),) bool.

    Raises ValueError, naming it, for a share outside 0..1.
    """
    for kind, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{kind}: {share}: a share of its rows is needed, from 0 to 1")
    seen: dict[str, float] = {}
    chosen = np.zeros(len(kinds), dtype=bool)
    for place, kind in enumerate(kinds):
        before = seen.get(kind, 0.0)
        seen[kind] = before + shares.get(kind, default)
        chosen[place] = int(seen[kind]) > int(before)
    return chosen


def thin_out(
    rows: list[dict[str, Any]], shares: Mapping[str, float], *, default: float = 1.0, what: str = "rows"
) -> list[dict[str, Any]]:
    """Keep a fraction of each task's rows (`default` of those not named), evenly spread over the manifest, and say how many
    are not kept. what: the manifest's name in messages."""
    chosen = evenly([row.get("task", "chat") for row in rows], shares, default=default)
    say_left_out(int((~chosen).sum()), len(rows), what=what, why=f"datamodule.shares takes {_shown(shares)}")
    return [row for row, kept in zip(rows, chosen, strict=True) if kept]


def _shown(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{share:g} of {name}" for name, share in shares.items())


def join_turns(rows: list[dict[str, Any]], *, turns: int, apart: float = 0.0) -> list[dict[str, Any]]:
    """Typed questions of a task about one single picture as one row of at most `turns` questions, each question once;
    other rows as they are. apart: the share of such rows, evenly spread, in which the questions do not follow each other
    as turns (`messages`) but stand beside the first one's conversation (`others`: messages of each)."""
    together: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    joined = []
    due = 0.0
    for row in rows:
        images, audios = media_of(row["messages"])
        if turns > 1 and len(images) == 1 and not audios and len(row["messages"]) == 2:
            asked = together.setdefault((row.get("task", "chat"), images[0]), {})
            asked.setdefault(text_of(row["messages"][0]), row)
        else:
            joined.append(row)
    for asked in together.values():
        members = list(asked.values())
        parts = -(-len(members) // turns)
        for part in range(parts):
            first, *others = members[part::parts]
            before, due = due, due + apart
            if int(due) > int(before):
                joined.append({**first, "others": [row["messages"] for row in others]})
            else:
                later = [_without_image(message) for row in others for message in row["messages"]]
                joined.append({**first, "messages": [*first["messages"], *later]})
    return joined


def _without_image(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": [item for item in content if item["type"] != "image"]}
