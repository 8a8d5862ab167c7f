"""What can go wrong between deploy.yaml and RunPod.

DeployError          deploy.yaml, the environment, or an endpoint that is not what it should be
├─ ApiError          RunPod refused or did not answer
└─ ReleasePending    everything is written; workers still run the release before
"""

from http import HTTPStatus


class DeployError(Exception):
    """A message for the operator; holds no secret."""


class ReleasePending(DeployError):
    """What was written stays; old workers were still running when the wait ended."""


class ApiError(DeployError):
    """RunPod's REST API refused, or gave no proper answer.

    Args:
        message: what was asked and what came back.
        status: HTTP status; None if there was no answer.
        retry_after_seconds: when the API says the quota is free again.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    @property
    def unsettled(self) -> bool:
        """Nobody knows whether the request was carried out."""
        return self.status is None or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
