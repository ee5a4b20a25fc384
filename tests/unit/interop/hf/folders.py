"""A small folder of Llama's shape in half precision, with three rows more than its tokenizer has tokens."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from muomni.interop.hf.folder import CONFIG, WEIGHTS
from muomni.interop.hf.thinker import to_hf
from muomni.models.thinker import Thinker
from tests.unit.frontends.pretrained import byte_level, write

END = "<|endoftext|>"
SHAPE = {"dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ff_dim": 24, "max_length": 32}


def write_llama(folder: Path) -> Path:
    """Config, tensors and tokenizer."""
    tokenizer = byte_level([END])
    write(folder, tokenizer, {"bos_token": END, "eos_token": END})
    torch.manual_seed(0)
    thinker = Thinker(vocab_size=tokenizer.get_vocab_size() + 3, tied=True, **SHAPE)
    config, tensors = to_hf(thinker)
    (folder / CONFIG).write_text(json.dumps(config))
    save_file({key: value.bfloat16() for key, value in tensors.items()}, folder / WEIGHTS)
    return folder
