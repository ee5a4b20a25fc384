"""A study whose trainings are a function of their values: no process, no torch."""

import math
import re

import pytest

from muomni.sweep.report import TrialReporter
from muomni.sweep.study import Spec

STEPS = 4


class Ended:
    def __init__(self, code):
        self.code = code

    def wait(self):
        return self.code

    def terminate(self):
        pass


def option(words, key):
    """The last value of an option, without quotes."""
    return [word.partition("=")[2].strip('"') for word in words if word.partition("=")[0] == key][-1]


def train(words, environment, log, inherited, *, loss=lambda rate, seed: abs(math.log10(rate) + 2), begun=None):
    """A training: four validations of a loss that depends on the rate and the seed."""
    if begun is not None:
        begun.append(words)
    rate, seed = float(option(words, "optim.lr")), next((int(w[5:]) for w in words if re.match(r"seed=", w)), 0)
    reporter = TrialReporter(
        option(words, "+callbacks.trial_report.sweep"), int(option(words, "+callbacks.trial_report.number")),
        offset=int(option(words, "+callbacks.trial_report.offset")),
    )  # fmt: skip
    value = loss(rate, seed)
    if value is None:
        log.write(b"some lines\nerror: optim.lr is too good\n")
        return Ended(1)
    for step in range(1, STEPS + 1):
        if reporter.report(step, value + (STEPS - step)) is not None:
            return Ended(reporter.exit_code)
    return Ended(0)


@pytest.fixture
def spec():
    return Spec(
        name="a", stage="thinker", words=["stage=thinker"], space={"optim.lr": "tag(log, interval(1e-4, 1.0))"}, seeds=[],
        monitor="thinker/val/loss", mode="min", keep="last", steps=STEPS, trials=8, storage="journal", pruner="median",
        search_seed=0,
    )  # fmt: skip
