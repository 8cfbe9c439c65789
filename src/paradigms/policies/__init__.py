"""Diffusion policies on real simulators: tasks, scripted experts, demonstrations, the published network, rollouts."""
