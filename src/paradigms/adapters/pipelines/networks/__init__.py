"""The networks of a pipeline: calls made as one batch, predicted, and checked to depend on their arguments alone."""
