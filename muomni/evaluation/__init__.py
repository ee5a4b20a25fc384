"""What each stage is measured by."""
