"""What is loaded once per worker: weights, networks, perception. Independent of jobs."""
