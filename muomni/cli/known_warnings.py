"""What Lightning says that does not hold here, and what it advertises.

It looks for a position in the loader, and warns of each resumed run; ours is in the datamodule. It takes parts that are not
trained, as the Talker's codec, for forgotten in eval mode.
"""

import logging
import warnings


def hush() -> None:
    """Say no more of it in this process."""
    untrue = (
        "does not have many workers",
        "LeafSpec",
        "tensorboardX",
        "Checkpoint directory",
        "sync_dist=True",
        "in eval mode at",
        "your dataloader is not resumable",
    )
    # "Tip: For seamless cloud logging ...": an advertisement
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for part in untrue:
        warnings.filterwarnings("ignore", message=f".*{part}.*")
