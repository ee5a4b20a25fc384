"""The Thinker that exports are tested by: small, and of a shape that every format has."""

SHAPE = {
    "vocab_size": 320,
    "dim": 64,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "ff_dim": 96,
    "max_length": 256,
}
