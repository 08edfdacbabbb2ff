"""Where engines and balancers run."""
