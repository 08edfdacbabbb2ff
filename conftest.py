"""What a run with pytest is: `bench.cli.pytest_session` has its options and fixtures."""

pytest_plugins = ("bench.cli.pytest_session",)
