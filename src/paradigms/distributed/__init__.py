"""Many devices: how ranks share a batch, exchange answers, and find out which of them failed."""
