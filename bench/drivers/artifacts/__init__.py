"""What aiperf and genai-perf leave in a folder, read into the suite's own records."""
