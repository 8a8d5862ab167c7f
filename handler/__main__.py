"""`python -m handler`: the command line, which is `hmr2-worker` once installed."""

from ops.command_line import main

if __name__ == "__main__":
    main()
