"""The report card: what the newest finished runs measured, and the goals."""
