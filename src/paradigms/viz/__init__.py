"""What a run looks like: the progress bar, the pictures, the animation; each wraps or reads frames."""
