// The core of the wire with the official Node client: node_client.mjs URL.  Throws where anything is not as it should be.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const tool = (container) => [{ type: "code_interpreter", container }];

const file = await client.files.create({
  file: await toFile(Buffer.from("region,sales\nnorth,10\nsouth,20\n"), "sales.csv"),
  purpose: "assistants",
});
const container = await client.containers.create({ name: "node", file_ids: [file.id] });
assert.equal(container.status, "running");

const code = `
import csv
rows = list(csv.DictReader(open("/mnt/data/${file.id}-sales.csv")))
total = sum(int(row["sales"]) for row in rows)
open("/mnt/data/größe.txt", "w").write(str(total))
print(total)
`;
const response = await client.responses.create({
  model: "local-python",
  input: "```python\n" + code + "\n```",
  tools: tool(container.id),
  include: ["code_interpreter_call.outputs"],
});
assert.equal(response.status, "completed");
assert.deepEqual(response.output.map((item) => item.type), ["code_interpreter_call", "message"]);
assert.equal(response.output[0].outputs[0].logs, "30\n");

const text = response.output[1].content[0];
const [citation] = text.annotations;
assert.equal(citation.filename, "größe.txt");
assert.ok([...text.text].slice(citation.start_index, citation.end_index).join("").startsWith("sandbox:/mnt/data/"));
const content = await client.containers.files.content.retrieve(citation.file_id, { container_id: container.id });
assert.equal(await content.text(), "30");

const seen = [];
const stream = client.responses.stream({
  model: "local-python",
  input: "print(total * 2)",
  previous_response_id: response.id,
  tools: tool({ type: "auto" }),
});
for await (const event of stream) seen.push(event.type);
assert.equal(seen[0], "response.created");
assert.equal(seen.at(-1), "response.completed");
assert.equal((await stream.finalResponse()).output_text, "60\n");

const names = [];
for await (const each of client.containers.files.list(container.id)) names.push(each.path);
assert.deepEqual(names.sort(), [`/mnt/data/${file.id}-sales.csv`, "/mnt/data/größe.txt"].sort());

await client.responses.delete(response.id);
await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
await client.containers.delete(container.id);
await client.files.delete(file.id);
console.log("done");
