// One call of the real openai package for Node, its outcome as a line of JSON: node calls.mjs NAME BASE_URL
import { File } from "node:buffer";
globalThis.File ??= File; // Node 18 has it, but not as a global
const { default: OpenAI, APIError, toFile } = await import("openai");

const [name, baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "sk-test" });
const messages = [{ role: "user", content: "hi" }];
const model = "gpt-4.1";
const weather = { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } };
const tools = [{ type: "function", function: weather }];

async function textOf(stream, collected = []) {
  for await (const part of stream) collected.push(part.choices[0]?.delta?.content ?? "");
  return collected.join("");
}

const calls = {
  chat: async () => (await client.chat.completions.create({ model, messages })).choices[0].message.content,
  stream: async () => textOf(await client.chat.completions.create({ model, messages, stream: true })),
  tools: async () => {
    const got = await client.chat.completions.create({ model, messages, tools });
    return JSON.parse(got.choices[0].message.tool_calls[0].function.arguments);
  },
  streamedTools: async () => {
    let text = "";
    for await (const part of await client.chat.completions.create({ model, messages, tools, stream: true }))
      for (const call of part.choices[0].delta.tool_calls ?? []) text += call.function.arguments ?? "";
    return JSON.parse(text);
  },
  zero: async () => (await client.chat.completions.create({ model, messages, temperature: 0 })).choices[0].message.content,
  streamedZero: async () => textOf(await client.chat.completions.create({ model, messages, temperature: 0, stream: true })),
  final: async () => client.chat.completions.stream({ model, messages }).finalContent(),
  embeddings: async () => (await client.embeddings.create({ model: "e", input: "x", encoding_format: "float" })).data[0].embedding,
  responses: async () => (await client.responses.create({ model, input: "hi" })).output_text,
  streamedResponses: async () => {
    let text = "";
    for await (const event of await client.responses.create({ model, input: "hi", stream: true }))
      if (event.type === "response.output_text.delta") text += event.delta;
    return text;
  },
  files: async () => {
    const file = await toFile(Buffer.from("x".repeat(200000)), "a.jsonl");
    const made = await client.files.create({ file, purpose: "batch" });
    const content = Buffer.from(await (await client.files.content(made.id)).arrayBuffer());
    return [made.id, content.length, (await client.files.delete(made.id)).deleted];
  },
  speech: async () => (await (await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "hi" })).arrayBuffer()).byteLength,
  sideBySide: async () => Promise.all(Array.from({ length: 20 }, (_, n) => (n % 2 ? calls.chat() : calls.stream()))),
  partial: async () => {
    const collected = [];
    try {
      await textOf(await client.chat.completions.create({ model, messages, stream: true }), collected);
    } catch (error) {
      return { text: collected.join(""), code: error.code ?? null, kind: error.constructor.name };
    }
    return { text: collected.join(""), kind: null };
  },
  abort: async () => {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    return "aborted";
  },
  timeout: async () => client.chat.completions.create({ model, messages }, { timeout: 8000 }),
};

try {
  console.log(JSON.stringify({ value: await calls[name]() }));
} catch (error) {
  const known = error instanceof APIError;
  console.log(JSON.stringify({ error: error.constructor.name, status: known ? error.status : null, code: error.code ?? null, message: error.message }));
}
