"""Trials of a study: each once, whatever is killed when; what fails or diverges is marked, and the others are trained."""

import functools
import json
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import replace

import pytest

from muomni.sweep.storage import FILES, KernelLock
from muomni.sweep.study import begin, load
from muomni.sweep.training import train as run_trial
from muomni.sweep.trials import next_trial
from muomni.sweep.worker import outcome, progress, work
from tests.unit.sweep.conftest import train


def ended(sweep, spec):
    return load(sweep, spec).get_trials(deepcopy=False)


def outcomes(sweep, spec):
    return Counter(map(outcome, ended(sweep, spec)))


@pytest.mark.parametrize("storage", FILES)
def test_a_sweep_trains_so_many_trials_and_finds_the_best(tmp_path, spec, storage):
    count = {"journal": 12, "sqlite": 2}[storage]
    spec = replace(spec, storage=storage, trials=count)
    begin(tmp_path, spec)
    begun = []
    assert work(tmp_path, start=functools.partial(train, begun=begun))
    found = outcomes(tmp_path, spec)
    assert found["complete"] + found["pruned"] == len(begun) == count and (found["pruned"] > 0) == (count > 5)
    assert f"{count} of {count} ended" in progress(load(tmp_path, spec), spec)
    begin(tmp_path, replace(spec, trials=count + 1))
    assert work(tmp_path, start=functools.partial(train, begun=begun)) and len(begun) == count + 1


def test_what_fails_or_diverges_is_marked_and_the_others_are_trained(tmp_path, spec):
    def loss(rate, seed):
        return None if rate < 1e-3 else float("nan") if rate > 0.1 else rate

    begin(tmp_path, replace(spec, trials=12))
    assert work(tmp_path, start=functools.partial(train, loss=loss))
    trials = ended(tmp_path, spec)
    for trial in trials:
        rate = trial.params["optim.lr"]
        wanted = "failed" if rate < 1e-3 else "diverged" if rate > 0.1 else ("complete", "pruned")
        assert outcome(trial) in wanted
    reasons = {trial.user_attrs["reason"] for trial in trials}
    notes = [json.loads((tmp_path / "trials" / str(trial.number) / "trial.json").read_text()) for trial in trials]
    assert [(note["outcome"], note["reason"]) for note in notes] == [
        (outcome(trial), trial.user_attrs["reason"]) for trial in trials
    ]
    assert "optim.lr is too good" in reasons and "thinker/val/loss is nan at step 1" in reasons


def killed_at(moment, sweep, spec):
    """A worker that is killed at its n-th write to the storage, or in its n-th training."""
    count = 0

    def die(*_):
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    acquire = KernelLock.acquire

    def acquire_and_die(self):
        done = acquire(self)
        die()
        return done

    KernelLock.acquire = acquire_and_die
    work(sweep, start=train)


def test_kills_lose_and_double_no_trial(tmp_path, spec):
    """At each of many moments, two workers at once, then the same command again until it ends by itself."""
    spec = replace(spec, trials=10)
    begin(tmp_path, spec)
    fork = multiprocessing.get_context("fork")
    killed = 0
    for moment in (1, 2, 3, 5, 7, 9, 12, 17, 23, 31):
        workers = [fork.Process(target=killed_at, args=(moment + extra, tmp_path, spec)) for extra in (0, 4)]
        for each in workers:
            each.start()
        for each in workers:
            each.join(60)
            killed += each.exitcode == -signal.SIGKILL
    assert killed > 8
    journal = tmp_path / FILES["journal"]
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "trial')  # of a process killed while it wrote
    assert work(tmp_path, start=train)
    trials = ended(tmp_path, spec)
    assert [trial.number for trial in trials] == list(range(10)) and all(trial.state.is_finished() for trial in trials)
    assert len({trial.params["optim.lr"] for trial in trials}) == 10
    assert sorted(int(path.name) for path in (tmp_path / "trials").iterdir()) == list(range(10))


def test_a_trial_whose_process_lives_is_not_taken_from_it(tmp_path, spec):
    study = begin(tmp_path, spec)
    first, second = (next_trial(study, spec, tmp_path) for _ in range(2))
    assert (first.trial.number, second.trial.number, second.again) == (0, 1, False)
    first.lock.close()
    again = next_trial(study, spec, tmp_path)
    assert (again.trial.number, again.again, again.values) == (0, True, first.values)


def test_a_training_that_ended_before_the_kill_is_not_repeated(tmp_path, spec):
    """Killed between the end of the training and the note of it."""
    study, begun = begin(tmp_path, spec), []
    claimed = next_trial(study, spec, tmp_path)
    train_once = functools.partial(train, begun=begun)
    assert run_trial(claimed, spec, tmp_path, start=train_once).outcome == "complete"
    (claimed.folder / "metrics.json").write_text("{}")
    claimed.lock.close()
    again = next_trial(study, spec, tmp_path)
    assert again.again and run_trial(again, spec, tmp_path, start=train_once).outcome == "complete" and len(begun) == 1


def test_an_interrupted_training_ends_the_worker_and_can_be_continued(tmp_path, spec):
    begin(tmp_path, spec)

    class Interrupted:
        wait = staticmethod(lambda: 130)

    assert not work(tmp_path, start=lambda *_: Interrupted())
    assert outcomes(tmp_path, spec) == {"running": 1}
    assert work(tmp_path, start=train) and len(ended(tmp_path, spec)) == 8


def test_seeds_alone_are_a_trial_each_and_with_a_search_a_training_each(tmp_path, spec):
    alone = replace(spec, space={}, seeds=[5, 6, 7], trials=3, words=["optim.lr=0.01"], name="seeds")
    begin(tmp_path / "alone", alone)
    assert work(tmp_path / "alone", start=functools.partial(train, loss=lambda rate, seed: seed))
    assert [(t.params["seed"], t.value) for t in ended(tmp_path / "alone", alone)] == [(5, 5), (6, 6), (7, 7)]
    both, begun = replace(spec, seeds=[5, 6], trials=2, pruner="none"), []
    begin(tmp_path / "both", both)
    assert work(tmp_path / "both", start=functools.partial(train, loss=lambda rate, seed: seed, begun=begun))
    assert [trial.value for trial in ended(tmp_path / "both", both)] == [5.5, 5.5] and len(begun) == 4
    assert "paths.exports.thinker" in " ".join(begun[0]) and "trials/0/seed-5" in " ".join(begun[0])


def test_a_folder_of_another_study_is_refused(tmp_path, spec):
    begin(tmp_path, spec)
    begin(tmp_path, replace(spec, trials=99))
    with pytest.raises(
        ValueError, match=r"holds another study: space is .*interval.* there, .*choice.* here; give another"
    ):
        begin(tmp_path, replace(spec, space={"optim.lr": "choice(1,2)"}))
    with pytest.raises(ValueError, match=r"words is without there, size=tiny here"):
        begin(tmp_path, replace(spec, words=["stage=thinker", "size=tiny"]))
    (tmp_path / "study.json").unlink()
    with pytest.raises(ValueError, match=r"study.journal is the storage of another study: give another name="):
        begin(tmp_path, spec)
    (tmp_path / "damaged").mkdir()
    begin(tmp_path / "damaged", spec)
    (tmp_path / "damaged" / "study.journal").write_text("no journal\n{}\n")
    with pytest.raises(ValueError, match=r"study.journal is no storage of a study, or is damaged"):
        begin(tmp_path / "damaged", spec)
