"""Metrics and logs of the balancer."""
