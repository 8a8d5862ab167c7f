"""The official hmr2 and phalp packages behind this project's promises (optional install).

Knows nothing of jobs. docs/13-engines.md says when to use them and how to install them.
"""
