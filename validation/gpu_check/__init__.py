"""KVCached against a static split on one GPU: plan, installation, engines, measurement, report."""
