"""What may be set and yet is not wise: limits that contradict each other. Knows no RunPod."""

from collections.abc import Mapping

from ops.deploy.environment import setting_value, strangers
from ops.deploy.schema import Endpoint

GB = 1000**3


def advice(endpoint: Endpoint, environment: Mapping[str, str]) -> list[str]:
    """Remarks for the operator; none of them stops a deployment.

    Args:
        endpoint: as deploy.yaml has it.
        environment: the worker's, its values accepted by the settings classes.
    """
    remarks = []
    budget = setting_value(environment, "WORKER_TIME_BUDGET_SECONDS")
    timeout = endpoint.timeout / 1000
    if budget >= timeout:
        remarks.append(
            f"WORKER_TIME_BUDGET_SECONDS ({budget:.0f}) is not below the timeout ({timeout:.0f} s): "
            "a long job ends as TIMED_OUT, without a code"
        )
    video, reserve = (
        setting_value(environment, name) for name in ("VIDEO_MAX_BYTES", "VIDEO_RESERVE_DISK_BYTES")
    )
    needed = (2 * video + reserve) / GB
    if endpoint.disk < needed:
        remarks.append(
            f"disk ({endpoint.disk} GB) is less than two largest videos and the reserve ({needed:.0f} GB): "
            "a large video may not fit"
        )
    if endpoint.gpu.count > 1:
        remarks.append(
            f"gpu.count is {endpoint.gpu.count}: a worker uses one GPU, the others are paid and idle"
        )
    if endpoint.workers.max == 0:
        remarks.append("workers.max is 0: jobs will wait forever")
    unknown = strangers(environment)
    if unknown:
        remarks.append(f"not settings of the worker: {', '.join(unknown)}")
    return remarks
