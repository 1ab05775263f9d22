"""`python -m heliosfs` is the command `heliosfs`."""

from heliosfs.cli.main import main

if __name__ == "__main__":
    main()
