"""The methods: how states are corrected after each batch, a file for each."""
