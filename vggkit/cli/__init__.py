"""The command line: `main` runs a command; each command reads its options, calls the library and prints."""
