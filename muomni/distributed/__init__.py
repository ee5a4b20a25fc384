"""Several processes: rendezvous, collectives, FSDP2, merged states."""
