"""What is known of the replicas, and what is in flight on each of them."""
