"""The code of a pipeline: where its denoising loop is, and the loop made rewindable."""
