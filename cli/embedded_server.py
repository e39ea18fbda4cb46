"""Prefect's embedded server as a child that ends with its parent, even with one that is killed and can tell nobody."""

import runpy
import sys

from stages.interruption import stop_with_parent

if __name__ == "__main__":
    stop_with_parent(int(sys.argv.pop(1)))
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
