"""The automatic window: measured, and chosen to finish soonest."""
