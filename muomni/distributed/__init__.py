"""Several processes as one: meeting, collectives, FSDP2, merged states."""
