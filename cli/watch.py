"""`cyborgs watch`: the report, live, for one person on this machine."""

import signal
from types import FrameType


def watch_run(url: str, *, port: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        RunError: there is no run, or the port is taken.
    """
    from stages.report.server import make_server

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a script that starts this in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with make_server(url, port=port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}  (Ctrl-C ends it; the run is not touched)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("no longer watching")
