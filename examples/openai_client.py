"""The demo over HTTP, with OpenAI's own client: a CSV goes up, code runs as it streams, the report comes down.

bichat serve                               (in another terminal)
python examples/openai_client.py
"""

from __future__ import annotations

import os
from pathlib import Path

from openai import OpenAI

HERE = Path(__file__).parent
BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8400/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "none needed on this machine")
OUT = Path("report")


def main() -> None:
    with OpenAI(base_url=BASE_URL, api_key=API_KEY) as client:
        sales = client.files.create(file=HERE / "data" / "sales.csv", purpose="assistants")
        # With a model configured this is a question; `local-python` runs what it is given, word for word.
        copy = f"import shutil\nshutil.copy('/mnt/data/{sales.id}-sales.csv', 'sales.csv');"
        report = (HERE / "sales_report.py").read_text(encoding="utf-8")
        request = {
            "model": "local-python",
            "input": f"```python\n{copy}\n```\n```python\n{report}\n```",
            "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [sales.id]}}],
        }
        with client.responses.stream(**request) as stream:
            for event in stream:
                if event.type == "response.code_interpreter_call.interpreting":
                    print("code runs ...")
                elif event.type == "response.output_text.delta":
                    print(event.delta, end="")
            response = stream.get_final_response()
        print()

        OUT.mkdir(exist_ok=True)
        cited = {note.file_id: note for note in response.output[-1].content[0].annotations}
        for note in cited.values():
            content = client.containers.files.content.retrieve(note.file_id, container_id=note.container_id)
            (OUT / note.filename).write_bytes(content.read())
            print(f"{OUT / note.filename}: {len(content.content):,} bytes")

        on = {"type": "code_interpreter", "container": {"type": "auto"}}
        again = client.responses.create(
            model="local-python",
            input="print(len(pd.read_csv('sales.csv')))",
            tools=[on],
            previous_response_id=response.id,
            include=["code_interpreter_call.outputs"],
        )
        print("rows:", again.output[0].outputs[0].logs.strip())


if __name__ == "__main__":
    main()
