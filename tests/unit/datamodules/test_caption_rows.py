"""One manifest of images with captions, read in the shapes of vision, thinker and omni_sft."""

import json

import pytest
from PIL import Image

from datamodules.manifests import read_manifest


@pytest.fixture
def manifest(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [
        {"id": "a", "image": "a.png", "captions": ["a dog on the beach", "a wet dog"]},
        {"id": "b", "image": "a.png", "caption": "a red kite", "task": "caption"},
        {"id": "c", "text": "no image", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
         "caption": "of nothing"},
    ]  # fmt: skip
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_captions_are_documents_of_a_language_model(manifest):
    texts = [row["text"] for row in read_manifest(manifest, shape="text")]
    assert texts == ["a dog on the beach\na wet dog", "a red kite", "no image"]


def test_captions_answer_a_request_to_describe_the_image(manifest):
    first, second, third = read_manifest(manifest, shape="sft")
    user, assistant = first["messages"]
    assert [item["type"] for item in user["content"]] == ["image", "text"]
    assert user["content"][0]["image"] == str(manifest.parent / "a.png")
    assert assistant["content"] == [{"type": "text", "text": "a dog on the beach"}]
    assert (first["task"], first["meta"]["question"]) == ("image_qa", "caption")
    assert second["task"] == "caption" and second["messages"][1]["content"][0]["text"] == "a red kite"
    assert third["messages"][1]["content"][0]["text"] == "ho"
