"""The stopping rules: which steps are finished."""
