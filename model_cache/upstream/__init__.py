"""The official hmr2 and phalp packages as another engine (optional install).

docs/13-engines.md says when to use them and how to install them.
"""
