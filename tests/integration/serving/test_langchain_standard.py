"""langchain-tests' own suite for chat models against a live server, as far as its has_* properties say that the model can."""

import pytest

pytest.importorskip("langchain_tests", reason="pip install langchain-tests: this suite is theirs")
langchain_openai = pytest.importorskip("langchain_openai", reason="pip install langchain-openai: its client is tested")
from langchain_tests.integration_tests import ChatModelIntegrationTests  # noqa: E402


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend):
    """For all tests: the client keeps its connections from one to the next."""
    yield  # noqa: PT022 - a coroutine would not keep the loop


@pytest.mark.anyio
class TestStandard(ChatModelIntegrationTests):
    """It calls no tools, and a random model's words fill no schema within its context."""

    @pytest.fixture(autouse=True)
    def _server(self, live):
        type(self).url = f"{live.url}/v1"

    @property
    def chat_model_class(self):
        return langchain_openai.ChatOpenAI

    @property
    def chat_model_params(self):
        return {"base_url": self.url, "api_key": "none", "model": "tiny", "max_retries": 0, "stream_usage": True}

    @property
    def has_tool_calling(self):
        return False

    @property
    def has_structured_output(self):
        return False

    @property
    def supports_json_mode(self):
        return False
