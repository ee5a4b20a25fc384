"""The report card: what the newest finished runs measured, beside the goals."""
