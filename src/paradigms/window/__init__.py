"""The sliding window: the rounds of a chain."""
