"""What happens per job: a video comes in, tracked people go out. Imports no torch."""
