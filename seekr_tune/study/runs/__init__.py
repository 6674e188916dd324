"""One run: its process or worker group, its files, what it shares with other runs."""
