"""The HTTP client towards replicas."""
