"""From deploy.yaml to a running endpoint on RunPod: plan, apply, status, destroy."""


class DeployError(Exception):
    """What is wrong with deploy.yaml, the environment or the endpoint, for the operator; holds no secret."""
