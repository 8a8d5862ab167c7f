"""Tests of the endpoint on one machine."""
