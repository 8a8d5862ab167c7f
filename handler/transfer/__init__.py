"""Bytes over the network: addresses, connections, downloads, the bucket."""
