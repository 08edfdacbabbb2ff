"""Finds the replicas, and polls each one for its health, its models and its queue."""
