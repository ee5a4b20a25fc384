"""/v1/embeddings by openai-python, synchronous and asynchronous, and by LangChain with its own suite."""

import asyncio
import base64

import numpy as np
import pytest
import torch

from muomni.checkpoints.export import save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.embedding import Embedder
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.models.vision import VisionTransformer
from tests.unit.inference.conftest import IMAGE, VOCAB
from tests.unit.serving.conftest import Live

openai = pytest.importorskip("openai", reason="pip install openai: these tests are its client's")
langchain_openai = pytest.importorskip("langchain_openai", reason="pip install langchain-openai: its client is tested")
pytest.importorskip("langchain_tests", reason="pip install langchain-tests: this suite is theirs")
from langchain_tests.integration_tests import EmbeddingsIntegrationTests  # noqa: E402

TEXTS = ["what colour is the circle", "tell me 1 2 3", "a small blue square"]
WIDTH = 8


@pytest.fixture(scope="module")
def embedder(tmp_path_factory, tokenizer_path):
    torch.manual_seed(2)
    blocks = {"dim": 24, "num_layers": 1, "num_heads": 2, "ff_dim": 32}
    towers = {
        "vision": VisionTransformer(image_size=32, patch=8, **blocks),
        "text_tower": TextTower(vocab_size=VOCAB, embed_dim=WIDTH, max_length=32, **blocks),
        "image_head": ImageHead(dim=24, embed_dim=WIDTH, pool="cls", grid=2),
    }
    metadata = {
        "stage": "vision",
        "tokenizer": Tokenizer.load(tokenizer_path).fingerprint(),
        "image": IMAGE.metadata(),
    }
    folder = tmp_path_factory.mktemp("checkpoints") / "vision"
    save_export(folder, towers, metadata=metadata, files={"tokenizer.model": tokenizer_path})
    return Embedder(folder, device="cpu")


@pytest.fixture(scope="module")
def towers(engine, embedder):
    server = Live(engine, embedder=embedder, names=("*",))
    yield server
    server.stop()


@pytest.fixture
def client(towers):
    return openai.OpenAI(base_url=f"{towers.url}/v1", api_key="none", max_retries=0)


def test_vectors_are_the_towers_own_however_they_are_sent(client, towers, embedder):
    vectors, counts = embedder.texts(TEXTS)
    packed = client.embeddings.create(model="tiny", input=TEXTS)  # the client asks for base64 by itself
    plain = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float", dimensions=WIDTH, user="a")
    for answer in (packed, plain):
        assert [each.index for each in answer.data] == [0, 1, 2]
        assert np.array_equal(np.array([each.embedding for each in answer.data], dtype=np.float32), vectors.numpy())
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(counts)
    raw = client.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="base64").data[0].embedding
    assert np.array_equal(np.frombuffer(base64.b64decode(raw), dtype=np.float32), vectors[0].numpy())

    async def asynchronous():
        async with openai.AsyncOpenAI(base_url=f"{towers.url}/v1", api_key="none", max_retries=0) as other:
            answers = await asyncio.gather(*(other.embeddings.create(model="tiny", input=text) for text in TEXTS))
        return [answer.data[0].embedding for answer in answers]

    assert np.array_equal(np.array(asyncio.run(asynchronous()), dtype=np.float32), vectors.numpy())


def test_images_and_texts_share_the_space(client, embedder, picture):
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    answer = client.embeddings.create(model="tiny", input=[TEXTS[0], url, {"image": url}, {"text": TEXTS[0]}])
    text, image, same_image, same_text = (np.array(each.embedding, dtype=np.float32) for each in answer.data)
    assert np.array_equal(image, embedder.images([picture])[0].numpy())
    assert np.array_equal(image, same_image) and np.array_equal(text, same_text)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"dimensions": WIDTH - 1}, "dimensions"), ({"input": ["a", ""]}, "input[1]"), ({"input": ["a", " "]}, "input[1]"),
        ({"input": "colour " * 60}, "input"), ({"input": [[1, 2]]}, "input[0]"),
        ({"input": ["a", "data:image/png;base64,AAAA"]}, "input[1]"), ({"input": [{"image": "a.png"}]}, "input[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client, given, param):
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(**({"model": "tiny", "input": "a"} | given))
    assert raised.value.body["param"] == param


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
class TestStandard(EmbeddingsIntegrationTests):
    """LangChain's suite. Its client sends the ids of OpenAI's own tokenizer unless it is told to send texts."""

    @pytest.fixture(autouse=True)
    def _server(self, towers):
        type(self).url = f"{towers.url}/v1"

    @property
    def embeddings_class(self):
        return langchain_openai.OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        return {"base_url": self.url, "api_key": "none", "model": "tiny", "check_embedding_ctx_length": False}
