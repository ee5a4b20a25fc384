"""Search by Optuna over trainings of `train.py`: one process, one folder and one W&B run a training."""
