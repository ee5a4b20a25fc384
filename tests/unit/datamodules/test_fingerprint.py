"""Data is known by its content; a changed file is found, a copy is the same; a run does not go on in other data unasked."""

import pytest

from datamodules import fingerprint
from datamodules.base import DataModule
from datamodules.fingerprint import changes, digest, digests


def test_a_digest_is_of_the_content_and_not_of_name_or_time(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n")
    (tmp_path / "b").write_text("one\ntwo\n")
    (tmp_path / "c").write_text("one\ntwO\n")
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    assert digest(tmp_path / "nothing") == "none"


@pytest.mark.parametrize("where", ["begin", "end", "size"])
def test_large_files_are_read_in_blocks(tmp_path, monkeypatch, where):
    monkeypatch.setattr(fingerprint, "WHOLE", 10)
    monkeypatch.setattr(fingerprint, "BLOCK", 4)
    content = bytearray(b"x" * 5000)
    (tmp_path / "a").write_bytes(content)
    before = digest(tmp_path / "a")
    if where == "size":
        content += b"x"
    else:
        content[0 if where == "begin" else -1] = 0
    (tmp_path / "a").write_bytes(content)
    assert digest(tmp_path / "a") != before


def test_a_folder_is_its_names_and_sizes_and_its_tables(tmp_path):
    folder = tmp_path / "d"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "x.txt").write_text("abc")
    before = digest(folder)
    assert digest(folder) == before
    (folder / "in" / "x.txt").write_text("abd")
    changed = digest(folder)
    assert changed != before, "a transcript of the same length"
    (folder / "in" / "y.wav").write_text("")
    assert digest(folder) not in (before, changed)


def test_only_what_is_learnt_from_counts(tmp_path):
    file = str(tmp_path / "a")
    found = digests({"train": file, "val": None, "test": file, "kind": "text", "replay": {"x": 1}})
    assert found == {"train": "none"}


def test_changes_are_said_and_the_unknown_is_the_same():
    now = {"files": {"train": "a", "val": "b"}, "samples": 16, "seed": 0}
    assert changes(now, now) is None and changes({}, now) is None
    assert "data.val is another file" in str(changes({**now, "files": {"train": "a", "val": "x"}}, now))
    assert changes({**now, "samples": 64}, now) == "there were 64 training rows, now there are 16"
    assert changes({**now, "seed": 1}, now) == "datamodule.seed was 1, now 0"


class Rows:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


class Data(DataModule):
    def load(self, path, split, *, phase):
        return Rows(len(path.read_text().split()))


def make(file):
    options = {"batch_size": 4, "eval_batch_size": 4, "num_workers": 0, "seed": 0}
    return Data(train=str(file), val=str(file), test={}, **options)


def go_on(data, state):
    """The epochs and the number of the batches that come after a checkpoint."""
    data.load_state_dict(state)
    data.train_dataloader()
    return data.batch_sampler.epoch, len(list(data.batch_sampler))


def test_a_run_goes_on_in_its_own_data_alone(tmp_path, caplog):
    file = tmp_path / "rows.txt"
    file.write_text("x " * 64)
    data = make(file)
    data.train_dataloader()
    for _ in range(10):
        data.count_batch()
    state = data.state_dict()
    assert state["consumed"] == 40
    checkpoint = {"Data": state}
    make(file).check_data(checkpoint, path="last.ckpt", named=False)
    assert go_on(make(file), state) == (0, 6)
    file.write_text("x " * 16)
    with pytest.raises(
        ValueError, match="there were 64 training rows, now there are 16.*resume=never .*resume=last.ckpt"
    ):
        make(file).check_data(checkpoint, path="last.ckpt", named=False)
    make(file).check_data(checkpoint, path="last.ckpt", named=True)
    assert "its run had other data" in caplog.text
    assert go_on(make(file), state) == (1, 4), "the new data from the begin of an epoch"
    del state["data"]  # of an older version
    make(file).check_data(checkpoint, path="last.ckpt", named=False)
    assert go_on(make(file), state) == (1, 4), "a position beyond the end is the begin of the next epoch"


def test_epochs_are_counted_in_steps(tmp_path):
    file = tmp_path / "rows.txt"
    file.write_text("x " * 42)  # ten batches of four
    data = make(file)

    def steps(epochs, accumulate=1, limit=None, only=0):
        return data.steps_in(epochs, accumulate=accumulate, limit=limit, only=only, ranks=1)

    assert steps(3) == 30
    assert steps(3, accumulate=4) == 9, "the last step of an epoch has two batches"
    assert steps(3, limit=4) == 4 + 4 + 2, "an epoch is gone through in parts"
    assert steps(2, limit=0.5) == 10
    assert steps(3, only=2) == 6


def test_one_batch_again_and_again(tmp_path):
    file = tmp_path / "rows.txt"
    file.write_text("x " * 42)
    order = make(file)._new_sampler(0, 1, overfit=1)
    seen = []
    for _ in range(3):
        seen += list(order)
        order.count_batch()
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2] and len(order) == 1
    assert {draw.epoch for draw in seen[2]} == {0}, "and the same augmentation"
