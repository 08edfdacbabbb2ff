"""What proxies cost, side by side, in front of the synthetic source."""
