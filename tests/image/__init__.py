"""The image: its locks, its Dockerfile, and what is installed from them."""
