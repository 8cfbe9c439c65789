"""diffusers' schedulers as tables of equation (1)."""
