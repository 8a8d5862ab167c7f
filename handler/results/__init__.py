"""Answers go out: documents, files, uploads, the overlay."""
