"""RunPod's endpoint on one machine: job API, durable queue, storage."""
