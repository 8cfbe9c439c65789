"""How the model is called: in batches and chunks, on one device or many, timed and checked."""
