"""The panels of a dashboard: section -> chart -> the metrics that it shows, as regular expressions over all stages.

One table for W&B's workspaces and for TensorBoard's custom scalars, so that both lay a run out alike.
"""

STAGE = r"[a-z_]+"

#: Section -> title of a chart -> expressions of the names of its curves.
PANELS: dict[str, dict[str, list[str]]] = {
    "learning": {
        "loss": [rf"{STAGE}/(train|val)/loss"],
        "losses by name": [rf"{STAGE}/(train|val)/(?!loss$)(next_token|answer|replay|ctc|global|late|captions|characters|l1|l2"
                           r"|commitment|stop|place|codebook_\d+|mel|spectral|generator|feature|discriminator|balance)"],
        "held-out metrics": [rf"{STAGE}/(test|val)\w*/(cer|wer|accuracy|r1_\w+|image_mean|exact|loss_minus_floor)"],
        "learning rate": [r"lr-.*"],
    },
    "health": {
        "gradient norm": [rf"{STAGE}/train/gradient_norm"],
        "gradient norm by module": [rf"{STAGE}/train/gradient_norm_.*"],
        "weight norm": [rf"{STAGE}/train/weight_norm_.*"],
        "update norm": [rf"{STAGE}/train/update_norm_.*"],
        "update / weight": [rf"{STAGE}/train/update_ratio_.*"],
        "skipped steps": [rf"{STAGE}/train/refused_by_.*"],
        "alarms": [rf"{STAGE}/train/alarms"],
    },
    "efficiency": {
        "MFU, percent": [rf"{STAGE}/train/mfu"],
        "throughput": [rf"{STAGE}/train/(samples|tokens|images|audio_seconds)_per_second"],
        "time of a step by phase, ms": [rf"{STAGE}/train/ms_.*"],
        "totals": [rf"{STAGE}/train/total_\w+"],
        "padding, percent": [rf"{STAGE}/train/padding_share"],
        "data wait, share": [rf"{STAGE}/train/data_wait_share"],
        "peak memory, MiB": [rf"{STAGE}/train/peak_memory_mib"],
        "recompiles": [rf"{STAGE}/train/recompiles"],
    },
}  # fmt: skip


def custom_scalars() -> dict[str, dict[str, list[object]]]:
    """The layout as TensorBoard's `add_custom_scalars` takes it."""
    return {
        section: {title: ["Multiline", names] for title, names in charts.items()} for section, charts in PANELS.items()
    }
