// The npm `ollama` client: node ollama.mjs URL CASE CHAT_MODEL EMBEDDER -> JSON on stdout.
import { Ollama } from "ollama";

const [host, name, chat, embedder] = process.argv.slice(2);
const client = new Ollama({ host });
const messages = [{ role: "user", content: "Say hello." }];
const options = { num_predict: 8 };
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
  models: async () => (await client.list()).models.map((model) => model.name),
  chat: () => client.chat({ model: chat, messages, options }),
  stream: async () => collect(await client.chat({ model: chat, messages, options, stream: true })),
  generate: async () => collect(await client.generate({ model: chat, prompt: "Say hello.", options, stream: true })),
  embed: () => client.embed({ model: embedder, input: ["a sky", "a sea"] }),
  tool: () =>
    client.chat({ model: chat, messages: [{ role: "user", content: "What is the weather in Lima?" }], tools: [tool] }),
  unknown: async () => {
    try {
      return { answer: await client.chat({ model: "no-such-model", messages }) };
    } catch (error) {
      return { status: error.status_code, error: error.error };
    }
  },
  abort: async () => {
    const stream = await client.chat({ model: chat, messages, options: { num_predict: 2000 }, stream: true });
    let left = "finished";
    try {
      for await (const _ of stream) stream.abort();
    } catch (error) {
      left = error.name;
    }
    const after = await client.chat({ model: chat, messages, options: { num_predict: 1 } });
    return { left, after };
  },
};

console.log(JSON.stringify(await cases[name]()));
process.exit(0);
