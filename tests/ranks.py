"""Several ranks on one machine, for tests: processes forked from one that has torch and Lightning already, joined by gloo."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

#: Forked from a process apart that has only imported: in the tests' own, autograd or a GPU may have started threads, which a
#: fork breaks.
_server: Any = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["torch", "lightning.pytorch"])


def run_ranks(function: Callable[..., Any], *arguments: Any, ranks: int, timeout: float = 500) -> list[Any]:
    """What `function(*arguments)` gives in each of several processes, which know their rank as torchrun would tell them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [_server.Pipe(duplex=False) for _ in range(ranks)]
    processes = [
        _server.Process(target=_process, args=(rank, ranks, port, pipe, function, arguments))
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        answers = [inbox.recv() if inbox.poll(timeout) else ("no answer", None) for inbox, _ in pipes]
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    for rank, (problem, _) in enumerate(answers):
        assert problem is None, f"rank {rank} of {ranks}: {problem}"
    return [answer for _, answer in answers]


def _process(rank: int, ranks: int, port: int, pipe: Any, function: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    try:
        pipe.send((None, function(*arguments)))
    except BaseException:
        pipe.send((traceback.format_exc(), None))
