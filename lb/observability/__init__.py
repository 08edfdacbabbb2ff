"""What the balancer tells about itself: metrics and logs."""
