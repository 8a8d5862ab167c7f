"""What keeps the endpoint on one machine from starting."""


class CannotServe(RuntimeError):
    """The reason in a sentence for a terminal, which names the file or address and what to do."""
