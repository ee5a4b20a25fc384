"""LightningDataModules, their readers and collators, and the embedded world."""
