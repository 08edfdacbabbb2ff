"""What the machine and the engines do during a trial: CPU time, and the engines' /metrics."""
