"""Pixels become tracked people: perception's results, PHALP's association and track life."""
