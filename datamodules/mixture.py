"""Which rows of an instruction manifest are used, and which of them share a conversation."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from datamodules.manifests import Row, keep_rows
from muomni.frontends.chat import media_of, text_of

log = logging.getLogger(__name__)

_TYPED = ["user", "assistant"]


def select_evenly(labels: Sequence[str], shares: Mapping[str, float], *, default: float) -> np.ndarray:
    """Choose a fraction of each label (`default` of those not named), evenly spread -> (len(labels),) bool.

    Raises ValueError, naming it, for a share outside 0..1.
    """
    _check_shares(shares)
    due: dict[str, float] = {}
    chosen = np.zeros(len(labels), dtype=bool)
    for index, label in enumerate(labels):
        before = due.get(label, 0.0)
        due[label] = before + shares.get(label, default)
        chosen[index] = int(due[label]) > int(before)
    return chosen


def select_evenly_of(
    codes: np.ndarray, names: Sequence[str], shares: Mapping[str, float], *, default: float
) -> np.ndarray:
    """As `select_evenly`, of labels that are numbers of names: millions of them in little time."""
    _check_shares(shares)
    chosen = np.zeros(len(codes), dtype=bool)
    for code, name in enumerate(names):
        own = np.flatnonzero(codes == code)
        due = np.floor(np.arange(len(own) + 1) * shares.get(name, default))
        chosen[own] = due[1:] > due[:-1]
    return chosen


def _check_shares(shares: Mapping[str, float]) -> None:
    for label, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{label}: {share}: a share of its rows is needed, from 0 to 1")


def subsample(
    rows: Sequence[Row], shares: Mapping[str, float] | None, *, default: float = 1.0, what: str = "rows"
) -> Sequence[Row]:
    """Keep a fraction of each task's rows (`default` of those not named; None: all), evenly spread over the manifest, and
    say how many are not kept. what: the manifest's name in messages."""
    shares = shares or {}
    chosen = select_evenly([row.get("task", "chat") for row in rows], shares, default=default)
    return keep_rows(rows, chosen, what=what, why=f"datamodule.shares takes {shown_shares(shares)}")


def shown_shares(shares: Mapping[str, float]) -> str:
    """{"asr": 0.5} -> "0.5 of asr"."""
    return ", ".join(f"{share:g} of {name}" for name, share in shares.items())


def group_questions(
    rows: Sequence[Row],
    *,
    per_row: int,
    isolated_share: float = 0.0,
    fits: Callable[[Row], bool] = lambda row: True,
    what: str = "rows",
) -> list[Row]:
    """Typed questions of a task about one single image as one row of at most `per_row` questions; other rows as they are.

    isolated_share: of such rows, evenly spread, in which the questions are not turns of one conversation (`messages`) but
    conversations of their own (`others`: messages of each further one). A question with several answers is used with each, as
    turns in separate rows, so that none follows another; one with the very same answer is used once, and logged. fits: True
    if a row is short enough; one that is not is divided. what: the manifest's name in messages.
    """
    together: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    joined: list[Row] = []
    due = 0.0
    again = 0
    for row in rows:
        images, audios = media_of(row["messages"])
        if per_row > 1 and len(images) == 1 and not audios and [turn["role"] for turn in row["messages"]] == _TYPED:
            members = together.setdefault((row.get("task", "chat"), images[0]), {})
            question, answer = map(text_of, row["messages"])
            again += (question, answer) in members
            members.setdefault((question, answer), row)
        else:
            joined.append(row)
    if again:
        log.info("%s: %d of %d rows repeat another's image, question and answer: used once", what, again, len(rows))
    for members in together.values():
        groups = -(-len(members) // per_row)
        for group in range(groups):
            chosen = list(members.values())[group::groups]
            before, due = due, due + isolated_share
            if int(due) > int(before):
                joined += _divided(chosen, _isolated, fits)
            else:
                joined += [row for each in _rounds(chosen) for row in _divided(each, _as_turns, fits)]
    return joined


def _rounds(rows: list[Row]) -> list[list[Row]]:
    """Rows in groups, no question twice in one."""
    rounds: list[list[Row]] = []
    seen: dict[str, int] = {}
    for row in rows:
        question = text_of(row["messages"][0])
        number = seen[question] = seen.get(question, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(row)
    return rounds


def _divided(rows: list[Row], join: Callable[[list[Row]], Row], fits: Callable[[Row], bool]) -> list[Row]:
    """Rows joined into one, or into as few halves of halves as fit."""
    whole = join(rows)
    if len(rows) == 1 or fits(whole):
        return [whole]
    half = len(rows) // 2
    return [*_divided(rows[:half], join, fits), *_divided(rows[half:], join, fits)]


def _isolated(rows: list[Row]) -> Row:
    return {**rows[0], "others": [row["messages"] for row in rows[1:]]}


def _as_turns(rows: list[Row]) -> Row:
    first, *later = ([{**turn, "content": turn["content"]} for turn in row["messages"]] for row in rows)
    for turn in (turn for turns in later for turn in turns if not isinstance(turn["content"], str)):
        turn["content"] = [item for item in turn["content"] if item["type"] != "image"]
    return {**rows[0], "messages": sum(later, first)}
