"""Learns, proves and publishes. Importing this package loads no torch; the child processes do."""
