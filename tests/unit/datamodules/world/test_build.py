"""Building: found again, same by any number of workers, added to, verified; what is wrong is named."""

import hashlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from datamodules.world import WorldSpec, build_world, verify_world
from datamodules.world.__main__ import main
from datamodules.world.build import SUBSETS, file_hashes, read_fingerprint, world_root
from datamodules.world.instructions import heard
from datamodules.world.prompts import TASK_SHARES, task_counts
from datamodules.world.verify import _changed
from datamodules.world.worker import Job, worker_pool
from tests.unit.datamodules.world.conftest import SMALLEST

TINY = {"text_bytes": 4000, "text_eval_documents": 4, "text_questions": 4, "train_pictures": 8, "eval_pictures": 4}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_world_verifies_and_is_found_again(root: Path, spec: WorldSpec) -> None:
    assert verify_world(root) == []
    before = (root / "fingerprint.json").stat().st_mtime_ns
    assert build_world(spec, root.parent.parent) == root
    assert (root / "fingerprint.json").stat().st_mtime_ns == before
    assert not list(root.glob(".*partial"))


def test_the_manifests_of_a_seed_stay_as_they_are(root: Path) -> None:
    """Whoever changes what the generator writes raises VERSION."""
    contents = [path.read_bytes() for subset in SUBSETS for path in sorted((root / subset).glob("*.jsonl"))]
    assert hashlib.sha256(b"".join(contents)).hexdigest()[:16] == "d105a70664596354"


def test_worker_processes_make_the_same_files(tmp_path: Path) -> None:
    spec = WorldSpec.of("ci", **TINY)
    alone = build_world(spec, tmp_path / "a", subsets=("text", "pictures"), workers=0)
    together = build_world(spec, tmp_path / "b", subsets=("text", "pictures"), workers=2)
    assert read_fingerprint(alone) == read_fingerprint(together)
    assert set(read_fingerprint(alone)["parts"]) == {"text", "pictures"}


def test_items_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = build_world(WorldSpec.of("ci", **TINY), tmp_path, subsets=("pictures",))
    more = build_world(WorldSpec.of("ci", **TINY | {"train_pictures": 12}), tmp_path, subsets=("pictures",))
    assert few != more
    assert read(more / "pictures/train.jsonl")[:8] == read(few / "pictures/train.jsonl")
    for row in read(few / "pictures/train.jsonl"):
        assert (few / "pictures" / row["image"]).read_bytes() == (more / "pictures" / row["image"]).read_bytes()


def test_instructions_have_their_shares_media_and_answers(root: Path) -> None:
    train = read(root / "instructions/train.jsonl")
    assert Counter(row["task"] for row in train) == task_counts(SMALLEST["instructions"])
    assert sum(TASK_SHARES.values()) == pytest.approx(1)
    utterances = {row["audio"]: row["text"] for row in read(root / "speech/train.jsonl")}
    captions = {row["image"]: row for row in read(root / "pictures/train.jsonl")}
    for row in train:
        user, assistant = (message["content"] for message in row["messages"])
        assert assistant[0]["text"] == row["answer"]
        if row["task"] in ("asr", "audio_qa"):
            spoken = utterances[user[0]["audio"].removeprefix("../speech/")]
            assert row["answer"] == (spoken if row["task"] == "asr" else heard(spoken)[row["meta"]["question"]])
        if row["task"] == "caption":
            assert row["meta"]["objects"] == captions[user[0]["image"].removeprefix("../pictures/")]["objects"]
        if row["task"] == "tts":
            assert assistant[0]["type"] == "speech"
            assert utterances[assistant[0]["audio"].removeprefix("../speech/")] == row["answer"]


def test_every_test_split_has_its_tasks(root: Path) -> None:
    tasks = {split: {row["task"] for row in read(root / f"instructions/test_{split}.jsonl")}
             for split in ("iid", "comp", "count", "voice", "para")}  # fmt: skip
    assert tasks["iid"] == set(TASK_SHARES)
    assert tasks["comp"] == {"image_qa", "caption"} == tasks["para"]
    assert tasks["count"] == {"image_qa"}
    assert tasks["voice"] == {"asr", "audio_qa", "spoken_image_qa"}
    typed = {row["id"]: row for row in read(root / "instructions/test_iid.jsonl")}
    for row in typed.values():
        if row["task"] == "spoken_image_qa":
            twin = typed[row["meta"]["typed"]]
            assert (twin["answer"], twin["messages"][0]["content"][0]) == (
                row["answer"],
                row["messages"][0]["content"][0],
            )


def is_about_colour(row: dict) -> bool:
    return row["task"] == "image_qa" and row["meta"]["question"] == "colour"


def edited(root: Path, tmp_path: Path, manifest: str, change) -> list[str]:
    """What verify says of a copy of the world in which `change` was applied to a manifest's rows (hashes renewed)."""
    copy = tmp_path / root.name
    shutil.copytree(root, copy)
    rows = read(copy / manifest)
    change(rows)
    (copy / manifest).write_text("".join(json.dumps(row) + "\n" for row in rows))
    fingerprint = read_fingerprint(copy)
    subset = manifest.split("/")[0]
    fingerprint["parts"][subset] = file_hashes(copy / subset)
    (copy / "fingerprint.json").write_text(json.dumps(fingerprint))
    return verify_world(copy)


@pytest.mark.parametrize(
    ("manifest", "change", "message"),
    [
        ("text/train.jsonl", lambda rows: rows[0].update(text="a big red circle"), "red circle is held out"),
        ("speech/train.jsonl", lambda rows: rows[0].update(text="what shade is it"), "the word 'shade' is held out"),
        ("speech/train.jsonl", lambda rows: rows[0].update(text="many red circles"), "red circle is held out"),
        ("text/test.jsonl", lambda rows: rows[0].update(text="same"), None),
        ("pictures/test_iid.jsonl", lambda rows: rows[0].update(image="images/none.png"), "no file images/none.png"),
        ("instructions/test_iid.jsonl", lambda rows: [row.update(answer="red") for row in rows], "not a complementary"),
        (
            "instructions/train.jsonl",
            lambda rows: rows.extend([row | {"answer": "red"} for row in rows if is_about_colour(row)] * 200),
            "is answered 'red'",
        ),
    ],
)
def test_verify_names_what_is_wrong(root: Path, tmp_path: Path, manifest: str, change, message: str | None) -> None:
    problems = edited(root, tmp_path, manifest, change)
    if message is None:
        assert problems == []
    else:
        assert any(message in problem for problem in problems), problems


def test_verify_sees_a_changed_file_and_a_document_in_two_splits(root: Path, tmp_path: Path) -> None:
    def copy_train(rows: list[dict]) -> None:
        rows[0]["text"] = read(root / "text/train.jsonl")[0]["text"]

    assert any(
        "occurs in train too" in problem for problem in edited(root, tmp_path / "a", "text/val.jsonl", copy_train)
    )
    tested = read(root / "speech/test.jsonl")[0]["text"]

    def say_a_test(rows: list[dict]) -> None:
        rows[0].update(kind="say", text=f"question: say {tested} answer: {tested}")

    problems = edited(root, tmp_path / "b", "text/train.jsonl", say_a_test)
    assert any("says a text of speech/test again" in problem for problem in problems)
    copy = tmp_path / root.name
    shutil.copytree(root, copy)
    with (copy / "text/train.jsonl").open("a") as file:
        file.write("{}\n")
    assert "text/train.jsonl: differs from the fingerprint" in _changed(
        copy / "text", read_fingerprint(copy)["parts"]["text"]
    )
    with pytest.raises(FileNotFoundError, match="no finished world"):
        verify_world(tmp_path)


def test_a_missing_extra_is_named_and_text_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    spec = WorldSpec.of("ci", **TINY)
    with pytest.raises(ValueError, match=r"pip install 'muomni\[world\]'"):
        build_world(spec, tmp_path)
    assert build_world(spec, tmp_path, subsets=("text",)) == world_root(spec, tmp_path)


def test_a_failed_build_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Job, spec: WorldSpec) -> list:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "run", fail)
    spec = WorldSpec.of("ci", **TINY)
    with pytest.raises(KeyboardInterrupt):
        build_world(spec, tmp_path, subsets=("pictures",), workers=0)
    assert list(world_root(spec, tmp_path).iterdir()) == []


def test_a_worker_s_error_reaches_the_caller(tmp_path: Path) -> None:
    job = Job(module="pictures", folder=tmp_path, arguments={"split": "nowhere", "start": 0, "stop": "x"})
    with (
        worker_pool(WorldSpec.of("ci"), count=1) as run,
        pytest.raises(RuntimeError, match=r"world: pictures .*TypeError"),
    ):
        list(run([job]))


@pytest.mark.timeout(60)
def test_workers_that_end_are_an_error_and_nobody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    jobs = [Job(module="text", folder=tmp_path, arguments={"split": "val"})] * 8
    with (
        pytest.raises(RuntimeError, match="a worker ended during text"),
        worker_pool(WorldSpec.of("ci"), count=2) as run,
    ):
        list(run(jobs))


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("tiny", {}, "unknown preset 'tiny'; presets are ci, small, base"),
        ("ci", {"sed": 1}, "unknown option 'sed'; options are seed"),
        ("ci", {"held_out": 7}, "held_out=7 must be 6 or 12"),
        ("ci", {"speakers": 2}, "speakers=2 must be 3..10"),
        ("ci", {"train_pictures": 0}, "train_pictures=0 must be at least 1"),
    ],
)
def test_bad_options_are_refused(preset: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldSpec.of(preset, **options)


def test_every_option_changes_the_folder_and_null_keeps_the_preset() -> None:
    assert WorldSpec.of("ci", seed=None) == WorldSpec.of("ci")
    options = {"seed": 1, "level": "hard", "rotation": 1, "held_out": 12, "wording": 1, "canonical": 0.6, "speakers": 9,
               "monochrome": 0.1, "digits": 0.1, "crowded": 0.2, "image_size": 48, "people": 64, **SMALLEST}  # fmt: skip
    names = {WorldSpec.of("ci").folder()} | {
        WorldSpec.of("ci", **{name: value}).folder() for name, value in options.items()
    }
    assert len(names) == 1 + len({name for name in options if getattr(WorldSpec.of("ci"), name) != options[name]})


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = [f"{name}={value}" for name, value in TINY.items()]
    assert main(["build", "--root", str(tmp_path), "--preset", "ci", "--subsets", "text", *fields]) == 0
    root = capsys.readouterr().out.splitlines()[0]
    assert main(["verify", root]) == 0
    assert "verified" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no finished world"):
        main(["verify", str(tmp_path)])
    with pytest.raises(ValueError, match="seed=x: a whole number is needed"):
        main(["build", "--preset", "ci", "seed=x"])
