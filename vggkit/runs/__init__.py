"""What a run leaves: its files, how they are checked and read back, and where they came from."""
