"""Command lines: help at once, one-line errors, overrides, rules across options."""
