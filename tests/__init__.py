"""The tests, and how annotations are checked while they run: an int may stand for a float, as in Python."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
