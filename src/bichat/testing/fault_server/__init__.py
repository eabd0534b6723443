"""A server on loopback that speaks OpenAI's wire and fails on purpose, for tests of clients.

    with FaultServer(Play(files={"a.csv": b"1"})) as server:
        server.fails("runs.retrieve", Fault.BROKEN, times=2)
        ...  # AsyncOpenAI(base_url=server.url, api_key="any")
        assert server.left == []

It plays the Assistants API (version 2), Files, Containers and Responses, as far as clients use them to have code run.  No
code runs: what comes out of a run is in its `Play`.  Nothing in it waits for time to pass.  Needs the standard library
alone.
"""

from __future__ import annotations

from bichat.testing.fault_server.play import Play
from bichat.testing.fault_server.serving import Fault, FaultServer

__all__ = ["Fault", "FaultServer", "Play"]
