"""From logits to tokens: sampling, beams, runtimes, compiled steps."""
