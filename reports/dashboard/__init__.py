"""The tables and charts of the dashboard: pure functions of judgements."""
