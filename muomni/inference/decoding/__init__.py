"""From logits to tokens: sampling, beam search, runtimes, compiled steps."""
