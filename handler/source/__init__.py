"""Bytes come in: download, probe, decode."""
