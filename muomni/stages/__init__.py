"""LightningModules: batch -> named losses -> log, and the metrics of each held-out split."""
