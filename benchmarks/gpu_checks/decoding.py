"""Decoding on a GPU: tokens a second with and without a CUDA graph, as a share of the memory's rate, and the first sound.

Each step reads all weights, and the cache of its rows; so the least time of a step is those bytes by the memory's rate.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu_checks.measuring import Row, Shapes, memory_rate, row, synchronize
from benchmarks.speed.decoders import GREEDY, network
from muomni.inference.decoding.compiled import make_runtime
from muomni.inference.decoding.generate import decode
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.inference.load import load_model
from muomni.models.thinker import Thinker

BANDWIDTH_AIM, SOUND_AIM = 60.0, 40.0  # percent at batch 1; milliseconds
SENTENCE = "a small red circle"


@torch.inference_mode()
def answer(thinker: Thinker, *, mode: str, packages: Path, ids: Tensor, new: int) -> tuple[Tensor, float]:
    """Greedy tokens (B, N) after ids (B, T), and the seconds of those after the first."""
    runtime, device = make_runtime(thinker, mode=mode, packages=packages), ids.device
    seconds = 0.0
    for _ in range(2):  # the first compiles
        cache = runtime.new_cache(len(ids), ids.shape[1] + new)
        sampler = Sampler(GREEDY, device=device)
        embeddings = thinker.embedding(ids)
        first = sampler(runtime.prefill(ids, cache, embeddings=embeddings, padding=None))
        decoder = runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
        synchronize(device)
        start = time.perf_counter()
        tokens = torch.stack(list(decode(decoder, first, max_tokens=new)), dim=1)
        synchronize(device)
        seconds = time.perf_counter() - start
    return tokens, seconds


def bytes_of_a_step(thinker: Thinker, *, rows: int, context: int) -> int:
    """Weights but for the embedding, of which a row is read, and keys and values of the rows."""
    embedding, head = thinker.embedding.weight, thinker.head.weight
    weights = [*thinker.parameters(), *thinker.buffers()]
    read = sum(each.nbytes for each in weights if each is not embedding or each is head)
    cache = thinker.new_cache(rows, context)
    return read + sum(each.nbytes for each in (cache.keys, cache.values))


def tokens_per_second(
    *, shapes: Shapes, device: torch.device, modes: Sequence[str], folder: Path, dtype: str
) -> list[Row]:
    """Of each mode and number of rows, and whether a compiled step gives the tokens of the eager one."""
    thinker = network("thinker", shapes.thinker).to(device)
    set_weight_dtype(thinker, dtype)
    rate, rows = memory_rate(device, copied=shapes.copied), []
    torch.manual_seed(1)
    for batch in shapes.batches:
        ids = torch.randint(9, thinker.vocab_size, (batch, shapes.prompt), device=device)
        eager: Tensor | None = None
        for mode in modes:
            tokens, seconds = answer(thinker, mode=mode, packages=folder, ids=ids, new=shapes.new)
            eager = tokens if eager is None else eager
            steps = tokens.shape[1] - 1
            read = bytes_of_a_step(thinker, rows=batch, context=shapes.prompt + shapes.new // 2)
            case = f"batch {batch}, compile={mode}, {dtype}"
            aim = BANDWIDTH_AIM if batch == 1 and mode == modes[-1] else None
            rows += [
                row("decoding", case, batch * steps / seconds, "tokens/s"),
                row("memory bandwidth", case, 100 * read * steps / seconds / rate, "%", aim=aim),
                row("tokens of eager decoding", case, 100 * (tokens == eager).float().mean().item(), "%", aim=99.0),
            ]
    return rows


def first_sound(export: Path, *, device: torch.device, rounds: int = 5) -> list[Row]:
    """From the call to the first piece of sound, by an export that speaks."""
    engine, seconds = load_model(export, device=str(device)), []
    for _ in range(rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        pieces = engine.generate_speech_stream(SENTENCE)
        next(pieces)
        seconds.append(time.perf_counter() - start)
        pieces.close()  # type: ignore[attr-defined]
    return [row("first sound", export.name, 1000 * statistics.median(seconds[1:]), "ms", aim=SOUND_AIM)]
