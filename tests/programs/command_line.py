"""The command line where some modules cannot be imported: their names, and after "--" its arguments."""

import sys

separator = sys.argv.index("--")
sys.modules.update(dict.fromkeys(sys.argv[1:separator]))

if __name__ == "__main__":  # the demo spawns a process, which imports this
    from aiopark._cli import main

    sys.exit(main(sys.argv[separator + 1 :]))
