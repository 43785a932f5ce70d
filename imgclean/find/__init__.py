"""From vectors to groups of duplicates."""
