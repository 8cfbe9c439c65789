"""The denoising loop of a pipeline, run in windows: rounds, rows, and which of them are accepted."""
