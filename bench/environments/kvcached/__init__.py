"""What engines show of KVCached: the texts that they write, and how they are asked."""
