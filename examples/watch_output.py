"""Output as it is printed, for a page or a terminal that shows it live; stopping the loop stops the code.

python examples/watch_output.py
"""

from __future__ import annotations

import anyio

from bichat import CodeInterpreter, Completed, Stderr, Stdout

CODE = """
import time

for step in range(1, 4):
    print(f"step {step} of 3", flush=True)
    time.sleep(0.2)
"""


async def main() -> None:
    async with CodeInterpreter(preload=False) as interpreter:
        async for event in interpreter.stream(CODE):
            match event:
                case Stdout(text) | Stderr(text):
                    print(f"| {text}", end="")
                case Completed(result):
                    print(f"{result.status} after {result.timings.total_s:.1f} s, isolation: {result.isolation.level}")


if __name__ == "__main__":
    anyio.run(main)
