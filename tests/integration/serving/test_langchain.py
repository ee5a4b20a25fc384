"""LangChain's ChatOpenAI against a live server."""

import asyncio
import base64

import pytest

langchain_openai = pytest.importorskip(
    "langchain_openai", reason="pip install langchain-openai: these tests are its client's"
)


@pytest.fixture
def model(live):
    return langchain_openai.ChatOpenAI(base_url=f"{live.url}/v1", api_key="none", model="tiny", max_retries=0)


def test_invoke_stream_and_batch(model, engine):
    expected = engine.generate("what colour", max_new_tokens=8)
    answer = model.invoke("what colour")
    assert answer.content == expected
    assert answer.usage_metadata["total_tokens"] > 0
    assert "".join(piece.content for piece in model.stream("what colour")) == expected
    assert model.batch(["what colour", "tell me"])[0].content == expected
    assert asyncio.run(model.ainvoke("what colour")).content == expected


def test_a_conversation_and_a_picture(model, engine, picture):
    said = [("system", "a small blue square"), ("user", "tell me"), ("assistant", "1 2 3"), ("user", "what colour")]
    messages = [{"role": role, "content": text} for role, text in said]
    assert model.invoke(said).content == engine.generate(messages=messages, max_new_tokens=8)
    url = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    content = [{"type": "text", "text": "what colour"}, {"type": "image_url", "image_url": {"url": url}}]
    assert model.invoke([{"role": "user", "content": content}]).content is not None


def test_structured_output(model):
    schema = {
        "title": "thing", "type": "object", "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["count"], "additionalProperties": False,
    }  # fmt: skip
    longer = model.model_copy(update={"max_tokens": 60})
    bound = longer.with_structured_output(schema, method="json_schema")
    assert 0 <= bound.invoke("tell me")["count"] <= 9


def test_tools_are_refused_by_name(model):
    bound = model.bind_tools([{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}])
    with pytest.raises(Exception, match="tools"):
        bound.invoke("tell me")
