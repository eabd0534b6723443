"""A program of 2024, with OpenAI's own client for assistants: only its address is new.

bichat serve                               (in another terminal)
python examples/assistants_client.py
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from openai import AssistantEventHandler, OpenAI

# The client says that OpenAI has no more assistants.
warnings.simplefilter("ignore", DeprecationWarning)

HERE = Path(__file__).parent
BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8400/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "none needed on this machine")
OUT = Path("thread")
# With a model configured this is a question; `local-python` runs what it is given, word for word.
QUESTION = """
```python
import pandas as pd

df = pd.read_csv("sales.csv").drop_duplicates("order_id")
orders = df["region"].str.strip().str.title().value_counts()
orders.plot.bar(title="Orders by region")
orders.to_csv("orders.csv")
print(orders.to_string())
```
"""


class Handler(AssistantEventHandler):
    """Shows what happens as it happens."""

    def on_tool_call_created(self, tool_call: Any) -> None:
        print(f"{tool_call.type} ...")

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:  # noqa: ARG002  # the client's signature
        for output in (delta.code_interpreter.outputs if delta.code_interpreter else None) or ():
            if output.type == "logs":
                print(output.logs, end="")

    def on_image_file_done(self, image_file: Any) -> None:
        print("an image:", image_file.file_id)


def main() -> None:
    with OpenAI(base_url=BASE_URL, api_key=API_KEY) as client:
        sales = client.files.create(file=HERE / "data" / "sales.csv", purpose="assistants")
        assistant = client.beta.assistants.create(
            model="local-python",
            instructions="You are a data visualizer.",
            tools=[{"type": "code_interpreter"}],
            tool_resources={"code_interpreter": {"file_ids": [sales.id]}},
        )
        thread = client.beta.threads.create(messages=[{"role": "user", "content": QUESTION}])
        with client.beta.threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id, event_handler=Handler()
        ) as stream:
            stream.until_done()

        OUT.mkdir(exist_ok=True)
        for message in client.beta.threads.messages.list(thread.id, order="asc"):
            for block in message.content:
                if block.type == "image_file":
                    path = OUT / f"{block.image_file.file_id}.png"
                    path.write_bytes(client.files.content(block.image_file.file_id).read())
                    print(path)
                elif block.type == "text" and message.role == "assistant":
                    text = block.text.value
                    for annotation in block.text.annotations:
                        if annotation.type == "file_path":
                            path = OUT / Path(annotation.text).name
                            path.write_bytes(client.files.content(annotation.file_path.file_id).read())
                            text = text.replace(annotation.text, str(path))
                    print(text)

        client.beta.threads.delete(thread.id)
        client.beta.assistants.delete(assistant.id)


if __name__ == "__main__":
    main()
