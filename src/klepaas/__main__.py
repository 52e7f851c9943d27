"""`python -m klepaas`: the same as the console script, found without a PATH."""

from klepaas.interfaces.cli.app import main

if __name__ == "__main__":
    main()
