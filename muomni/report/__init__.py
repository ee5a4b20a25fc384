"""The report card: metrics of the newest finished runs, and the goals."""
