"""From groups to decisions. Opens on a machine without torch."""
