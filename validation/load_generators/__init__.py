"""What load generators cost, side by side, and what this one does with thousands of streams."""
