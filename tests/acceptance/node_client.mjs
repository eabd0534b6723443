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

// Assistants: the same core, by polls and as a stream.
const assistant = await client.beta.assistants.create({
  model: "local-python",
  tools: [{ type: "code_interpreter" }],
  tool_resources: { code_interpreter: { file_ids: [file.id] } },
});
const thread = await client.beta.threads.create({
  messages: [{ role: "user", content: `x = open("/mnt/data/${file.id}").read()\nopen("größe.csv", "w").write(x)\nprint(len(x))` }],
});
const run = await client.beta.threads.runs.createAndPoll(thread.id, { assistant_id: assistant.id });
assert.equal(run.status, "completed");
const [answer] = (await client.beta.threads.messages.list(thread.id)).data;
const [link] = answer.content[0].text.annotations;
assert.ok(link.text.startsWith("sandbox:/mnt/data/"));
assert.ok(answer.content[0].text.value.includes(link.text));
assert.equal(await (await client.files.content(link.file_path.file_id)).text(), "region,sales\nnorth,10\nsouth,20\n");

await client.beta.threads.messages.create(thread.id, { role: "user", content: "print(x[:6])" });
const told = { code: "", logs: "", text: "", events: [] };
const running = client.beta.threads.runs
  .stream(thread.id, { assistant_id: assistant.id })
  .on("textDelta", (delta) => (told.text += delta.value ?? ""))
  .on("toolCallDelta", (delta) => {
    told.code += delta.code_interpreter?.input ?? "";
    for (const output of delta.code_interpreter?.outputs ?? []) told.logs += output.logs ?? "";
  });
for await (const event of running) told.events.push(event.event);
assert.equal((await running.finalRun()).status, "completed");
assert.deepEqual([told.code, told.logs, told.text], ["print(x[:6])", "region\n", "region\n"]);
assert.deepEqual([told.events[0], told.events.at(-1)], ["thread.run.created", "thread.run.completed"]);
const steps = (await client.beta.threads.runs.steps.list(run.id, { thread_id: thread.id })).data;
assert.deepEqual(steps.map((step) => step.type), ["message_creation", "tool_calls"]);
await client.beta.threads.delete(thread.id);
await client.beta.assistants.delete(assistant.id);
await assert.rejects(client.beta.threads.retrieve(thread.id), OpenAI.NotFoundError);

await client.responses.delete(response.id);
await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
await client.containers.delete(container.id);
await client.files.delete(file.id);
console.log("done");
