"""`python -m vggkit`: the command line."""

from vggkit.cli import main

if __name__ == "__main__":
    main()
