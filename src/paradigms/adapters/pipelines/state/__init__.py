"""The state that a loop and its networks carry from step to step: found, kept, compared and put back."""
