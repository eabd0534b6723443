"""Inside a server: one interpreter for the program's life, executions side by side, each in a sandbox of its own.

python examples/several_at_once.py
"""

from __future__ import annotations

from pathlib import Path

import anyio

from bichat import CodeInterpreter, ExecutionResult, LimitError

SALES = Path(__file__).parent / "data" / "sales.csv"

QUESTIONS = {
    "orders": "import pandas as pd; print(len(pd.read_csv('sales.csv').drop_duplicates('order_id')))",
    "mistake": "import pandas as pd; print(pd.read_csv('sales.csv')['turnover'].sum())",
    "endless": "while True: pass",
    "greedy": "blocks = [bytes(10_000_000) for _ in range(1000)]",
    "curious": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)",
}


async def main() -> None:
    results: dict[str, ExecutionResult] = {}

    async with CodeInterpreter() as interpreter:

        async def ask(name: str, code: str) -> None:
            results[name] = await interpreter.run(code, files={"sales.csv": SALES}, timeout_s=10, memory="512m")

        async with anyio.create_task_group() as tasks:
            for name, code in QUESTIONS.items():
                tasks.start_soon(ask, name, code)

        try:
            await interpreter.run("print(1)", memory="1000g")
        except LimitError as error:  # an exception means that the platform did not run the code
            print(f"refused    {error}")

    for name in QUESTIONS:  # code that fails is a result, with a status and what to tell the model
        result = results[name]
        said = result.stdout.strip() if result.ok else f"{result.error.name}: {result.error.message}"
        print(f"{name:<10} {result.status:<14} {said}")


if __name__ == "__main__":
    anyio.run(main)
