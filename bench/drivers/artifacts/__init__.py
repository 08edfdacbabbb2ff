"""What aiperf and genai-perf leave on disk, as the suite's own records."""
