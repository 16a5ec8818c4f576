"""`python -m vggkit`: the command line."""

from vggkit.cli.main import main

if __name__ == "__main__":
    main()
