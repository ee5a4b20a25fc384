"""Conversations: slots, joined turns, shares, limits, plain questions."""

import json

import pytest
import torch
from PIL import Image

from datamodules.conversations import branch_positions
from datamodules.mixture import group_questions, subsample
from datamodules.sft import SftData
from muomni.frontends.audio_io import write_audio
from muomni.frontends.chat import text_of
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import AUDIO, BOS, EOS, IGNORE, IMAGE

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)


def row(name, task, question, answer, **media):
    content = [{"type": kind, kind: path} for kind, path in media.items()]
    content += [{"type": "text", "text": question}] if question else []
    says = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"id": name, "task": task, "messages": says, "meta": {"question": task}}


@pytest.fixture
def folder(tmp_path):
    Tokenizer.train(["what colour is the dot? red blue describe the picture"] * 20, 300, tmp_path / "tokenizer.model")
    Image.new("RGB", (16, 16), (200, 10, 20)).save(tmp_path / "a.png")
    write_audio(tmp_path / "a.wav", 0.3 * torch.sin(torch.arange(4000) * 0.05), 16000)  # 25 mel frames
    rows = [
        row("caption", "caption", "describe the picture", "a red dot", image="a.png"),
        row("colour", "image_qa", "what colour is the dot?", "red", image="a.png"),
        row("heard", "asr", "what was said?", "a dot", audio="a.wav"),
        row("both", "spoken_image_qa", "", "red", image="a.png", audio="a.wav"),
        row("text", "text_qa", "what is red?", "a dot"),
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plain = {"id": "q", "kind": "fact", "text": "x", "prompt": "question: dot? answer:", "answer": "red"}
    (tmp_path / "plain.jsonl").write_text(json.dumps(plain))
    return tmp_path


def make(folder, **changes):
    options = {
        "tokenizer": str(folder / "tokenizer.model"), "image": ImageSpec(size=8, mean=(0.3,) * 3, std=(0.3,) * 3),
        "mel": MEL, "cache": None, "image_tokens": "grid", "image_grid": 2, "audio_downsample": 4, "audio_stack": 2,
        "max_length": 64,
        "max_audio_tokens": 16, "shares": {},
        "questions_per_row": 1, "isolated_share": 0.0, "curriculum": {}, "memory_mb": 1,
        "train": str(folder / "train.jsonl"),
        "val": None, "test": {"same": str(folder / "train.jsonl"), "plain": str(folder / "plain.jsonl")},
        "batch_size": 2, "eval_batch_size": 5, "num_workers": 0, "seed": 0,
    }  # fmt: skip
    return SftData(**(options | changes))


def test_a_batch_has_its_slots_and_media_in_order(folder):
    batch = next(iter(make(folder).test_dataloader()[0]))
    assert (batch.ids == IMAGE).sum(1).tolist() == [4, 4, 0, 4, 0]
    assert (batch.ids == AUDIO).sum(1).tolist() == [0, 0, 4, 4, 0]  # ceil(25 / 8)
    assert batch.image_rows == [0, 1, 3] and batch.audio_rows == [2, 3]
    assert batch.images.shape == (3, 3, 8, 8) and batch.mel_lengths.tolist() == [25, 25]
    assert batch.tasks[3] == "spoken_image_qa" and batch.answers[0] == "a red dot"


def test_the_loss_falls_on_the_answer_and_its_end(folder):
    data = make(folder)
    batch = next(iter(data.test_dataloader()[0]))
    learnt = batch.targets[1][batch.targets[1] != IGNORE].tolist()
    assert learnt == [*data.tokenizer.encode("red"), EOS]


def test_questions_of_a_task_about_a_picture_become_turns(folder):
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows.insert(2, row("shape", "image_qa", "what is it?", "a dot", image="a.png"))
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = make(folder, questions_per_row=4).samples("train")
    joined = samples.item([r["id"] for r in samples.rows].index("colour"), 0)
    assert (joined.ids == IMAGE).sum() == 4 and len(joined.images) == 1
    assert (joined.targets == EOS).sum() == 2 and len(samples) == 5  # the description stays alone
    assert [m["role"] for m in joined.row["messages"]] == ["user", "assistant"] * 2


def test_no_more_turns_than_asked_for():
    rows = [row(str(index), "image_qa", f"q{index}", "a", image="x.png") for index in range(5)]
    joined = group_questions(rows, per_row=2)
    assert sorted(len(each["messages"]) for each in joined) == [2, 4, 4]
    assert {m["content"][-1]["text"] for each in joined for m in each["messages"][::2]} == {f"q{i}" for i in range(5)}
    assert group_questions(rows, per_row=1) == rows


def test_a_share_of_the_pictures_has_its_questions_apart():
    rows = [
        row(f"{picture}{n}", "image_qa", f"q{n}", "a", image=f"{picture}.png") for picture in "abcd" for n in range(3)
    ]
    joined = group_questions(rows, per_row=9, isolated_share=0.5)
    assert [len(each.get("others", [])) for each in joined] == [0, 2, 0, 2]
    assert [len(each["messages"]) for each in joined] == [6, 2, 6, 2]
    assert all(messages[0]["content"][0]["image"] == "b.png" for messages in joined[1]["others"])


def test_questions_apart_share_the_picture_and_nothing_else(folder):
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows.insert(2, row("shape", "image_qa", "what is it?", "a dot", image="a.png"))
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    alone = {r["id"]: make(folder).samples("train") for r in rows}
    data = make(folder, questions_per_row=4, isolated_share=1.0, pack=60)
    samples = data.samples("train")
    place = [r["id"] for r in samples.rows].index("colour")
    sample = samples.item(place, 0)
    assert len(sample.images) == 1 and sample.branches.tolist()[:4] == [0] * 4
    for number, name in enumerate(("colour", "shape"), start=1):
        single = alone[name].item([r["id"] for r in alone[name].rows].index(name), 0)
        seen = (sample.branches == 0) | (sample.branches == number)
        assert sample.ids[seen].tolist() == single.ids.tolist()
        assert sample.targets[seen].tolist() == single.targets.tolist()
        assert branch_positions(sample.branches)[seen].tolist() == list(range(len(single.ids)))
    other = (place + 1) % len(samples)
    batch = data.collate_train([sample, samples.item(other, 0)])
    assert int(batch.mask.branch_ids.max()) == 2
    assert batch.mask.branch_ids.shape == batch.mask.positions.shape == batch.ids.shape
    assert data.collate_train([samples.item(other, 0)]).mask.branch_ids is None
    with pytest.raises(ValueError, match=r"datamodule\.isolated_share=1\.0"):
        make(folder, isolated_share=1.0)


def test_shares_thin_out_evenly():
    rows = [{"id": index, "task": "tts" if index % 2 else "asr"} for index in range(40)]
    kept = subsample(rows, {"tts": 0.25})
    assert sum(r["task"] == "asr" for r in kept) == 20
    places = [r["id"] for r in kept if r["task"] == "tts"]
    assert len(places) == 5 and max(b - a for a, b in zip(places, places[1:], strict=False)) == 8


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_its_range_is_refused_by_name(share):
    with pytest.raises(ValueError, match=f"tts: {share}: a share"):
        subsample([{"id": 0, "task": "asr"}], {"tts": share})


def test_plain_questions_are_read_among_the_tests(folder):
    data = make(folder)
    sample = data.samples("test/plain").item(0, -1)
    assert sample.row["task"] == "plain" and sample.row["meta"] == {"question": "fact"}
    assert data.tokenizer.decode(sample.targets[sample.targets != IGNORE].tolist()).strip() == "red"


def test_what_is_too_long_is_refused_or_counted(folder, caplog):
    with pytest.raises(ValueError, match=r"caption: Too many tokens: \d+ > 20"):
        make(folder, max_length=20, test={"same": str(folder / "train.jsonl")}).samples("test/same")
    few = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()][-1:]
    many = [few[0] | {"id": str(n)} for n in range(199)] + [row("long", "chat", "what colour? " * 30, "red")]
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, many)))
    assert len(make(folder, test={"many": str(folder / "many.jsonl")}).samples("test/many")) == 199
    assert "many.jsonl: 1 of 200 rows are left out: longer than 64 tokens" in caplog.text
    with pytest.raises(ValueError, match="of 5 rows do not fit"):
        make(folder, max_length=20).samples("train")
    with pytest.raises(ValueError, match="at most 2"):
        make(folder, max_audio_tokens=2).samples("test/same")


def test_what_opens_the_first_epoch(folder):
    data = make(folder, curriculum={"asr": 1.0, "text_qa": 1.0})
    samples = data.samples("train")
    data.train_dataloader()
    drawn = [
        [samples.rows[place]["task"] for batch in data.batch_sampler.batches(epoch)[0] for place in batch]
        for epoch in range(8)
    ]
    assert set(drawn[0][:2]) == {"asr", "text_qa"}
    assert any(set(order[:2]) != {"asr", "text_qa"} for order in drawn[1:])


def test_replayed_documents_are_learnt_whole(folder):
    documents = [{"id": str(i), "text": "what colour is the dot? red"} for i in range(40)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, documents)))
    data = make(folder, replay=str(folder / "text.jsonl"), replay_share=0.5)
    samples = data.samples("train")
    replay = [samples.item(i, 0) for i in range(len(samples)) if samples.rows[i]["task"] == "replay"]
    assert len(replay) == len(samples) / 2 == 5
    document = [BOS, *data.tokenizer.encode(documents[0]["text"]), EOS]
    assert len({sample.row["id"] for sample in replay}) == 5, "each once"
    for sample in replay:
        assert (sample.ids.tolist(), sample.targets.tolist()) == (document[:-1], document[1:])
    talk = next(samples.item(i, 0) for i in range(len(samples)) if samples.rows[i]["task"] != "replay")
    assert data.collate_train([replay[0], talk]).replayed[:, 0].tolist() == [True, False]
    assert not data.collate_train([talk]).replayed.any(), "every batch of a training has the same losses"
    assert make(folder).collate_train([talk]).replayed is None
    packing = make(folder, pack=60, replay=str(folder / "text.jsonl"), replay_share=0.5)
    packed = packing.collate_train([replay[0], talk, replay[1]])
    for row, (segments, old) in enumerate(zip(packed.mask.segment_ids, packed.replayed, strict=True)):
        for number in range(1, int(segments.max()) + 1):
            whole = packed.ids[row][segments == number].tolist() in [sample.ids.tolist() for sample in replay[:2]]
            assert old[segments == number].tolist() == [whole] * int((segments == number).sum())
    assert int(packed.replayed.sum()) == sum(len(sample.ids) for sample in replay[:2])
    assert all(row["task"] != "replay" for row in make(folder, replay=None, replay_share=0.5).samples("train").rows)
    with pytest.raises(ValueError, match=r"replay_share=1\.0"):
        make(folder, replay=str(folder / "text.jsonl"), replay_share=1.0)


def test_of_some_kinds_of_documents_fewer_are_replayed(folder):
    kinds = ["caption", "fact"] * 20
    documents = [{"id": str(i), "text": "red dot", "kind": kind} for i, kind in enumerate(kinds)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, documents)))
    data = make(folder, replay=str(folder / "text.jsonl"), replay_share=0.9, replay_kinds={"caption": 0.25})
    replayed = [row["id"].split("-")[1] for row in data.samples("train").rows if row["task"] == "replay"]
    drawn = [kinds[int(number)] for number in replayed]
    assert (drawn.count("caption"), drawn.count("fact")) == (5, 20)
    nothing = {"caption": 0.01, "fact": 0.0}
    with pytest.raises(ValueError, match=r"text\.jsonl: datamodule\.replay_kinds=.* leaves no document"):
        make(folder, replay=str(folder / "text.jsonl"), replay_share=0.9, replay_kinds=nothing).samples("train")


def test_questions_are_not_replayed(folder):
    (folder / "text.jsonl").write_text(json.dumps({"id": "q", "prompt": "question: dot? answer:", "answer": "red"}))
    with pytest.raises(ValueError, match=r"text\.jsonl: q is a question; data\.replay= takes documents \(text\) alone"):
        make(folder, replay=str(folder / "text.jsonl"), replay_share=0.5).samples("train")


def test_a_packed_batch_holds_the_same_conversations_with_media_in_the_order_of_their_slots(folder):
    data = make(folder, pack=40, batch_size=5)
    samples = data.samples("train")
    batch = data.collate_train([samples.item(i, 0) for i in range(5)])
    found = [
        batch.ids[row][batch.mask.segment_ids[row] == number].tolist()
        for row in range(len(batch.ids)) for number in range(1, int(batch.mask.segment_ids[row].max()) + 1)
    ]  # fmt: skip
    assert found == [samples.item(samples_of(samples, name), 0).ids.tolist() for name in batch.sample_ids]
    assert len(batch.ids) < 5 and sorted(batch.sample_ids) == sorted(row["id"] for row in samples.rows)
    assert int((batch.ids == IMAGE).sum()) == 4 * len(batch.image_keys) == 4 * len(batch.images)
    assert data.lengths(samples) is None


def test_image_tokens_none_leaves_rows_with_pictures_out_of_every_split_and_says_how_many(folder, caplog):
    data = make(folder, image_tokens="none")
    assert [each["id"] for each in data.samples("train").rows] == ["heard", "text"]
    assert "train.jsonl: 3 of 5 rows are left out: they hold images (image_tokens=none)" in caplog.text
    batch = next(iter(data.test_dataloader()[0]))
    assert batch.tasks == ["asr", "text_qa"] and batch.images is None and not (batch.ids == IMAGE).any()
    lines = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join(lines[:2]))
    seeing = make(folder, image_tokens="none")
    assert len(seeing.test_dataloader()[0]) == 0
    with pytest.raises(ValueError, match="every row holds an image, and image_tokens=none"):
        seeing.samples("train")
    with pytest.raises(ValueError, match="image_tokens='all'; available: cls, grid, none"):
        make(folder, image_tokens="all")


def samples_of(samples, name):
    return [row["id"] for row in samples.rows].index(name)


def test_what_is_left_out_is_said_in_a_line_a_cause(folder, caplog):
    documents = [{"id": str(i), "text": "red dot", "kind": kind} for i, kind in enumerate(["caption", "fact"] * 20)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, documents)))
    short = [row(f"t{n}", "text_qa", "what is red?", "a dot") for n in range(200)]
    long = [row("long", "chat", "what is red? " * 40, "a dot"), row("tts", "tts", "what?", "red")]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, short + long)))
    how = {"replay": str(folder / "text.jsonl"), "replay_share": 0.05, "replay_kinds": {"caption": 0.5}}
    rows = make(folder, shares={"tts": 0.0}, **how).samples("train").rows
    assert len(rows) == 200 + 11
    for line in (
        "train.jsonl: 1 of 202 rows are left out: datamodule.shares takes 0 of tts",
        "train.jsonl: 1 of 201 rows are left out: longer than 64 tokens",
        "text.jsonl: 10 of 40 rows are left out: datamodule.replay_kinds takes 0.5 of caption",
        "text.jsonl: 19 of 30 rows are left out: replay_share of the rows needs no more",
    ):
        assert caplog.text.count(line) == 1, line


def test_rows_of_joined_questions_are_not_taken_for_the_manifests(folder, caplog):
    rows = [row(f"q{n}", "image_qa", f"what {n}?", "a dot", image="a.png") for n in range(6)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(make(folder, questions_per_row=3, shares={"image_qa": 0.5}).samples("train")) == 1
    assert "train.jsonl, its questions joined: 1 of 2 rows are left out: datamodule.shares" in caplog.text


def test_of_a_long_document_that_is_replayed_every_token_is(folder):
    texts = ["what colour is the dot? " * 30, "red", "blue dot"]
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"id": str(i), "text": t}) for i, t in enumerate(texts)))
    data = make(folder, replay=str(folder / "text.jsonl"), replay_share=0.9)
    samples = data.samples("train")
    pieces = [samples.item(i, 0) for i in range(len(samples)) if samples.rows[i]["id"].startswith("replay-0")]
    assert len(pieces) > 2 and max(len(piece.ids) for piece in pieces) <= 64
    learnt = sorted(token for piece in pieces for token in piece.targets.tolist())
    assert learnt == sorted([*data.tokenizer.encode(texts[0]), EOS])
    assert len({r["id"] for r in samples.rows}) == len(samples)


def answers_in(rows):
    conversations = [messages for each in rows for messages in [each["messages"], *each.get("others", [])]]
    return sorted(text_of(m) for messages in conversations for m in messages if m["role"] == "assistant")


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("turns", [1, 2, 3, 9])
def test_every_answer_to_the_same_question_about_the_same_picture_is_used(turns, apart):
    """Five captions of a picture are five rows with one instruction; a question and its answer are used however often others
    ask the same."""
    rows = [row(f"{p}{n}", "caption", "describe", f"{p} {n}", image=f"{p}.png") for p in "ab" for n in range(5)]
    rows += [row(f"q{n}", "caption", f"what {n}?", f"it {n}", image="a.png") for n in range(3)]
    joined = group_questions(rows, per_row=turns, isolated_share=apart)
    assert answers_in(joined) == sorted(each["messages"][1]["content"] for each in rows)
    for each in joined:
        asked = [m["content"][-1]["text"] for m in each["messages"][::2]]
        assert len(asked) == len(set(asked)) <= turns, "in a conversation nobody asks twice"


def test_a_row_that_repeats_another_is_learnt_once_and_said(caplog):
    rows = [row(str(n), "image_qa", "what?", "a dot", image="a.png") for n in range(3)]
    with caplog.at_level("INFO"):
        assert answers_in(group_questions(rows, per_row=9, what="mine.jsonl")) == ["a dot"]
    assert "mine.jsonl: 2 of 3 rows repeat another's image, question and answer" in caplog.text


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_questions_that_together_are_too_long_are_divided_not_lost(folder, apart):
    rows = [row(f"q{n}", "image_qa", f"what colour is the dot? {n}", f"red {n}", image="a.png") for n in range(9)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = make(folder, questions_per_row=9, isolated_share=apart, pack=64, max_length=90).samples("train")
    learnt = [samples.item(index, 0) for index in range(len(samples))]
    assert sum(int((sample.targets == EOS).sum()) for sample in learnt) == 9
    assert 1 < len(samples) < 9 and max(len(sample.ids) for sample in learnt) <= 90


@pytest.mark.parametrize(
    "odd", [{"task": ["a"], "meta": "note"}, {"task": 7, "meta": ["x"]}, {"task": None, "meta": None}, {"task": "", "meta": 3},
            {"meta": {"question": ["how"], "pair": [1], "objects": "two", "typed": {}, "spoken": None}},
            {"meta": {"objects": [{"colour": "red"}]}}]
)  # fmt: skip
def test_further_keys_of_a_user_may_be_anything(folder, odd):
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in each.items() if key not in odd} | odd for each in rows]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = make(folder, questions_per_row=4, curriculum={"chat": 0.5}, shares={"chat": 1.0})
    assert len(answers_in(data.samples("train").rows)) == 5
    batch = next(iter(data.test_dataloader()[0]))
    assert all(isinstance(task, str) for task in batch.tasks)
    assert all(set(meta) <= {"question"} for meta in batch.meta), "what no metric can read is left out"


def test_a_conversation_with_a_further_key_prompt_is_a_conversation(folder):
    rows = [
        json.loads(line) | {"prompt": "of someone's trainer"}
        for line in (folder / "train.jsonl").read_text().splitlines()
    ]
    (folder / "train.json").write_text(json.dumps(rows, indent=1))
    assert len(make(folder, test={"same": str(folder / "train.json")}).samples("test/same")) == 5
    (folder / "plain.csv").write_text("prompt,answer\nquestion: dot? answer:,red\n")
    assert make(folder, test={"plain": str(folder / "plain.csv")}).samples("test/plain").rows[0]["task"] == "plain"
