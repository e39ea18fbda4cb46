"""Prefect's embedded server as a child that ends with its parent, even with one that is killed and can tell nobody."""

import runpy
import sys


def main() -> None:
    """Serve; the first argument is the parent's process number, the others are uvicorn's."""
    from stages.interruption import stop_with_parent

    stop_with_parent(int(sys.argv.pop(1)))
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
