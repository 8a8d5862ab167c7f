"""RunPod's endpoint on one machine: job API, durable queue, storage."""


class CannotServe(RuntimeError):
    """What keeps the endpoint from starting, in a sentence that names the file or address and what to do."""
