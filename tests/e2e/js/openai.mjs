// The npm `openai` client: node openai.mjs URL CASE CHAT_MODEL EMBEDDER -> JSON on stdout.
import OpenAI from "openai";

const [url, name, chat, embedder] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "Say hello." }];
const tool = {
  type: "function",
  function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};

async function collect(stream) {
  const all = [];
  for await (const part of stream) all.push(part);
  return all;
}

const cases = {
  models: async () => (await collect(client.models.list())).map((model) => model.id),
  chat: () => client.chat.completions.create({ model: chat, messages, max_tokens: 8 }),
  stream: async () =>
    collect(await client.chat.completions.create({ model: chat, messages, max_tokens: 8, stream: true })),
  completion: () => client.completions.create({ model: chat, prompt: "Once", max_tokens: 8 }),
  embeddings: () => client.embeddings.create({ model: embedder, input: ["a sky", "a sea"] }),
  tool: () =>
    client.chat.completions.create({
      model: chat,
      messages: [{ role: "user", content: "What is the weather in Lima?" }],
      tools: [tool],
    }),
  unknown: async () => {
    try {
      return { answer: await client.chat.completions.create({ model: "no-such-model", messages }) };
    } catch (error) {
      return { status: error.status, error: error.error };
    }
  },
  abort: async () => {
    const stream = await client.chat.completions.create({ model: chat, messages, max_tokens: 2000, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    return client.chat.completions.create({ model: chat, messages, max_tokens: 1 });
  },
};

console.log(JSON.stringify(await cases[name]()));
process.exit(0);
