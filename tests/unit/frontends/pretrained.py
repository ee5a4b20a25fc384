"""Small tokenizers in the format of each family of pretrained models, trained on text that is made here, as folders."""

import json
import random
from pathlib import Path

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for message in loop_messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}"
    "{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}"
    "{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for message in loop_messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (first if loop.first else '') + message['content'] + 'AFTER' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def lines() -> list[str]:
    """Words, digits, punctuation and characters of several bytes, the same at each call."""
    draw = random.Random(0)
    words = ["the", "a", "cat", "dog", "red", "blue", "dot", "is", "not", "in", "on", "where", "what", "12", "2024"]
    words += ["über", "café", "日本", "число", "hello", "there's", "😀"]
    return [" ".join(draw.choices(words, k=12)) + draw.choice([".", "?", "!\n", "\n\n"]) for _ in range(200)]


def byte_level(specials, *, split=False, begins=None, visible=()):
    """GPT-2; with `split` Qwen and Llama 3. begins: the special token that texts begin with. visible: added, not special."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE(byte_fallback=False, ignore_merges=split))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)
    if split:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"), tokenizer.pre_tokenizer]
        )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        lines(), trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(list(specials))
    tokenizer.add_tokens([AddedToken(each, special=False, normalized=False) for each in visible])
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begins} $A", pair=f"{begins} $A {begins} $B",
            special_tokens=[(begins, tokenizer.token_to_id(begins))],
        )  # fmt: skip
    return tokenizer


def metaspace(specials, *, prefix):
    """prefix: "normalizer" (Llama 2), "first" (Mistral), None (Gemma)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never")
    tokenizer.train_from_iterator(
        lines(), trainers.BpeTrainer(vocab_size=380, special_tokens=[*specials[:3], *BYTES], show_progress=False)
    )
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = document["added_tokens"][:3]
    document["model"] |= {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    document["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(document))
    replace = normalizers.Replace(" ", "▁")
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    elif prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*decoder, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    tokenizer.add_special_tokens(list(specials[3:]))
    begins = "<bos>" if "<bos>" in specials else "<s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begins} $A", pair=f"{begins} $A {begins} $B",
        special_tokens=[(begins, tokenizer.token_to_id(begins))],
    )  # fmt: skip
    return tokenizer


def unigram():
    """T5 and others."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(lines(), trainer)
    return tokenizer


def families() -> dict:
    """Name -> (tokenizer, what its tokenizer_config.json says)."""
    chatml = {"chat_template": CHATML}
    turns = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    gemma, mistral = ["<pad>", "<eos>", "<bos>", "<unk>"], ["<unk>", "<s>", "</s>"]
    end, turn = "<|endoftext|>", ["<|im_start|>", "<|im_end|>"]
    return {
        "gpt2": (byte_level([end]), dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)),
        "qwen": (
            byte_level([end, *turn], split=True, visible=["<think>"]),
            {"eos_token": turn[1], "pad_token": end, **chatml},
        ),
        "smollm2": (byte_level([end, *turn]), {"bos_token": turn[0], "eos_token": turn[1], "pad_token": turn[1], **chatml}),
        "llama3": (
            byte_level(turns, split=True, begins=turns[0]),
            {"bos_token": turns[0], "eos_token": turns[4], "chat_template": LLAMA3},
        ),
        "llama2": (
            metaspace(mistral, prefix="normalizer"),
            {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True}, "unk_token": "<unk>",
             "chat_template": MISTRAL.replace("AFTER", " [/INST]")},
        ),
        "mistral": (
            metaspace([*mistral, "[INST]", "[/INST]"], prefix="first"),
            {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
             "chat_template": MISTRAL.replace("AFTER", "[/INST]").replace("[INST] ", "[INST]")},
        ),
        "gemma": (
            metaspace([*gemma, "<start_of_turn>", "<end_of_turn>"], prefix=None),
            {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "chat_template": GEMMA},
        ),
        "unigram": (unigram(), {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
    }  # fmt: skip


def write(folder: Path, tokenizer, config) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config})
    )
    return folder
