"""Damage: to bytes, and to trees of plain data."""

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4))
#: Values that no one expects: wrong types, wrong signs, too large, too deep.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 10**9, 10**30, -(10**9)),
    *(0.0, 0.5, -1.5, 1e308, math.nan, math.inf),
    *("", " ", "0", "-1", "nan", "true", "a", "\x00", "é", "../../etc/passwd", "x" * 5000),
    *([], [[]], {}, {"a": 1}, [None], [1, 2, 3], ["a"], {"": None}, [[[[[[]]]]]]),
    *(b"bytes".hex(), "!!python/object:os.system", "*a", "&a [*a]", "${oc.env:HOME}"),
)


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat, insert or empty; one to four times, more often near the head, where formats are told."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        size = len(data)
        at = rng.randrange(min(size, 64)) if rng.random() < 0.5 else rng.randrange(size)
        damage = rng.randrange(8)
        if damage == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif damage == 1:
            data[at] = rng.randrange(256)
        elif damage == 2:
            edge = rng.choice(EDGES)
            data[at : at + len(edge)] = edge
        elif damage == 3:
            del data[at:]
        elif damage == 4:
            del data[at : at + rng.randrange(1, 64)]
        elif damage == 5:
            data[at:at] = data[at : at + rng.randrange(1, 256)]
        elif damage == 6:
            data[at:at] = rng.randbytes(rng.randrange(1, 64))
        elif rng.random() < 0.2:
            data.clear()
        else:
            data += rng.randbytes(rng.randrange(1, 4096))
    return bytes(data)


def damage_tree(tree: Any, rng: random.Random) -> Any:
    """A copy of plain data (dicts, lists, scalars) in which one to three entries are odd, missing, doubled or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        entries = list(_entries(tree))
        if not entries:
            return rng.choice(ODD)
        owner, key = rng.choice(entries)
        damage = rng.randrange(6)
        if damage == 0:
            del owner[key]
        elif damage == 1 and isinstance(owner, dict):
            owner[rng.choice(("", "x", f"{key}_", "dim", "messages"))] = owner.pop(key)
        elif damage == 2 and isinstance(owner, list):
            owner[key:key] = [copy.deepcopy(owner[key])] * rng.choice((1, 2, 50))
        elif damage == 3 and isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
            owner[key] = rng.choice(
                (-owner[key], owner[key] + 1, owner[key] * 1000, 0, owner[key] / 3, str(owner[key]))
            )
        else:
            owner[key] = copy.deepcopy(rng.choice(ODD))
    return tree


def _entries(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every entry in a tree."""
    if not isinstance(tree, dict | list):
        return
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        yield from _entries(value)
