"""The monitoring endpoint: families of metrics, readiness, HTTP. Reads shared memory only; roles/metrics moves the bytes."""
