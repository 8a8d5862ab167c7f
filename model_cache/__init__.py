"""What is loaded once per worker: weights, networks, perception. Knows no job."""
