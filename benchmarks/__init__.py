"""Benchmarks: each one command, which compares in one run, names the machine, repeats, and gives the spread."""
