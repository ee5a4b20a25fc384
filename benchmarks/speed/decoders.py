"""The decoders that are compared: ours, and on the very weights of a Thinker of Llama's shape transformers and llama.cpp.

Shapes: B rows, T tokens of the prompt, N new tokens, V vocabulary.
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from benchmarks.stages import compose_config
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.compiled import make_runtime
from muomni.inference.decoding.generate import decode, prefill
from muomni.inference.decoding.native import library
from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.interop.gguf.vocabulary import of_sentencepiece
from muomni.interop.gguf.writing import Text
from muomni.interop.gguf.writing import write_gguf as gguf_file
from muomni.interop.hf.thinker_out import to_transformers
from muomni.models.thinker import Thinker
from muomni.special_tokens import EOS, PIECES

INSTALL = {
    "transformers": "pip install transformers",
    "llama_cpp": 'CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python',
    "gguf": "pip install gguf",
}


@dataclass(slots=True)
class Answer:
    """Tokens (B, N), seconds until the first was there, and seconds of the others."""

    tokens: Tensor
    first: float
    rest: float


#: Shapes of published models, as sizes of a Thinker.
PUBLISHED: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "vocab_size": 49152, "dim": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "ff_dim": 1536, "max_length": 2048,
        "rope_theta": 1e5, "tied": True,
    },
}  # fmt: skip
Decoder = Callable[[Tensor, int], Answer]
#: processor: of this process, which a machine that others use disturbs less.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
clock = "wall"
GREEDY = preset("greedy")


def network(name: str, size: str) -> Any:
    """A network by its configuration, with random weights; a Thinker never chooses a special token: no decoder has to be told
    to leave them out."""
    torch.manual_seed(0)
    if size in PUBLISHED:
        module: Any = Thinker(**PUBLISHED[size])
    else:
        cfg = compose_config("stage=omni_sft", f"size={size}")
        module = instantiate(cfg.backbone[name], _convert_="all")
    module = module.eval().requires_grad_(False)
    if name == "thinker":
        module.head.weight[: len(PIECES)] = 0
    return module


def make_thinker(size: str, dtype: str = "float32") -> Any:
    """A Thinker of random weights, which are kept in a dtype."""
    thinker = network("thinker", size)
    set_weight_dtype(thinker, dtype)
    return thinker


class Ours:
    """A runtime of ours."""

    def __init__(self, thinker: Thinker, *, mode: str, packages: Path, options: GenerationOptions = GREEDY) -> None:
        self.runtime, self.thinker = make_runtime(thinker, mode=mode, packages=packages), thinker
        self.options = options
        library.available()  # an eager runtime would begin without the operators, and build them meanwhile

    @torch.inference_mode()
    def __call__(self, ids: Tensor, new: int) -> Answer:
        """ids (B, T) -> N new tokens a row."""
        cache = self.runtime.new_cache(len(ids), ids.shape[1] + new)
        sampler = Sampler(self.options, device="cpu")
        start = CLOCKS[clock]()
        first = sampler(prefill(self.thinker, ids, cache))
        between = CLOCKS[clock]()
        decoder = self.runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
        tokens = torch.stack(list(decode(decoder, first, max_tokens=new)), dim=1)
        return Answer(tokens, between - start, CLOCKS[clock]() - between)


class Transformers:
    """Hugging Face transformers' `generate`, greedy. cache: "dynamic" or "static", neither of which is compiled on a CPU."""

    def __init__(self, thinker: Any, *, cache: str = "dynamic") -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        parts = to_transformers(thinker)
        config = AutoConfig.for_model(**parts.config, bos_token_id=None, eos_token_id=None, pad_token_id=0)
        self.model = AutoModelForCausalLM.from_config(config).eval()
        self.model.load_state_dict(parts.tensors, strict=not parts.config["tie_word_embeddings"])
        self.cache = cache

    @torch.inference_mode()
    def __call__(self, ids: Tensor, new: int) -> Answer:
        """ids (B, T) -> N new tokens a row."""
        seconds: list[float] = []
        greedy: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "do_sample": False, "eos_token_id": None}
        greedy |= {"cache_implementation": self.cache, "disable_compile": True}
        for count in (1, new):
            start = CLOCKS[clock]()
            whole = self.model.generate(ids, max_new_tokens=count, **greedy)
            seconds.append(CLOCKS[clock]() - start)
        return Answer(whole[:, ids.shape[1] :], seconds[0], seconds[1] - seconds[0])


def write_gguf(thinker: Any, path: Path, dtype: str, *, tokenizer: Tokenizer | None = None) -> None:
    """A Thinker as a GGUF file, its matrices in F32 or Q8_0. tokenizer: for tokens that come out as text; None: tokens go in and
    out as numbers."""
    parts, text = to_transformers(thinker), None
    if tokenizer is not None:
        text = Text(vocabulary=of_sentencepiece(tokenizer.content), special={"eos": EOS}, add_bos=False)
    gguf_file(path, config=parts.config, tensors=parts.tensors, dtype=dtype.lower(), text=text, about={})


class LlamaCpp:
    """llama.cpp by its own batch interface: a sequence a row, logits of the last token of each, numpy's argmax."""

    def __init__(self, path: Path, *, batch: int, context: int, vocab_size: int, threads: int) -> None:
        import llama_cpp

        self.lib, self.batch, self.vocab_size = llama_cpp, batch, vocab_size
        llama_cpp.llama_log_set(_SILENCE, None)
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = context * batch, 512, 512
        options.n_seq_max, options.n_threads, options.n_threads_batch = batch, threads, threads
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32 if "F32" in path.name else llama_cpp.GGML_TYPE_F16
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        assert self.context, f"llama.cpp does not take {path}"
        self.llama_batch = llama_cpp.llama_batch_init(512, 0, 1)

    def _read(self, tokens: np.ndarray, position: int) -> np.ndarray:
        """tokens (B, T) from a position on -> logits (B, V) of what follows."""
        batch, (B, T) = self.llama_batch, tokens.shape
        for index, (row, offset) in enumerate(np.ndindex(B, T)):
            batch.token[index], batch.pos[index] = int(tokens[row, offset]), position + offset
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, row
            batch.logits[index] = offset == T - 1
        batch.n_tokens = B * T
        status = self.lib.llama_decode(self.context, batch)
        assert status == 0, f"llama_decode says {status}"
        return np.ctypeslib.as_array(self.lib.llama_get_logits(self.context), (B, self.vocab_size))

    def __call__(self, ids: Tensor, new: int) -> Answer:
        """ids (B, T) -> N new tokens a row."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        tokens, (_, T) = np.empty((self.batch, new), dtype=np.int64), ids.shape
        prompt = ids.numpy()
        start = CLOCKS[clock]()
        tokens[:, 0] = self._read(prompt, 0).argmax(1)
        first = CLOCKS[clock]()
        for step in range(1, new):
            tokens[:, step] = self._read(tokens[:, step - 1 : step], T + step - 1).argmax(1)
        return Answer(torch.from_numpy(tokens), first - start, CLOCKS[clock]() - first)

    def close(self) -> None:
        """Give the memory back."""
        self.lib.llama_batch_free(self.llama_batch)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


_SILENCE = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
