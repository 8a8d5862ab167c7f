"""From deploy.yaml to a running endpoint on RunPod: plan, apply, status, destroy."""
