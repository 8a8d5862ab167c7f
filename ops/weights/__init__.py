"""The official weight files: fetched, checked and converted into the store."""
