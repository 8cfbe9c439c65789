"""Checks of a call's arguments, before any work."""
