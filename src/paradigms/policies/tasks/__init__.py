"""The robot tasks: a simulator and a scripted expert for each."""
