// The official Node SDK, unmodified, against a running gateway: the same checks as openai_python.py.
//
// Takes CFR_BASE_URL, CFR_KEY, CFR_BROKE_KEY, CFR_LIMITED_KEY and the folder of the SDK, CFR_TEST_NODE_MODULES, from the
// environment. Runs every check, names each one, and exits with the number of those that failed.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.env.CFR_TEST_NODE_MODULES, "sdk.cjs"));
const { OpenAI } = require("openai");
const { VERSION } = require("openai/version");

const baseURL = process.env.CFR_BASE_URL;
const model = "gpt-4o-mini";
const embeddingModel = "text-embedding-3-small";
const messages = [{ role: "user", content: "Say hello." }];
const pixel =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const client = (apiKey = process.env.CFR_KEY, options = {}) => new OpenAI({ baseURL, apiKey, ...options });
const chat = (terms, as = client()) => as.chat.completions.create({ model, messages, max_tokens: 64, ...terms });

/** Calls and returns the error, which must be exactly of this type and have these attributes. */
async function rejected(type, call, attributes) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor.name, type.name, String(error));
    for (const [name, value] of Object.entries(attributes)) assert.equal(error[name], value, name);
    return error;
  }
  throw new assert.AssertionError({ message: `no ${type.name}` });
}

async function collected(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const checks = {
  async "a chat is answered with usage"() {
    const answer = await chat({});
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },
  async "a chat without a cap is answered"() {
    assert.ok((await chat({ max_tokens: undefined })).choices[0].message.content);
  },
  async "a stream shows no usage that was not asked for"() {
    const chunks = await collected(await chat({ stream: true }));
    assert.ok(chunks.length > 2);
    assert.ok(chunks.every((chunk) => chunk.choices.length > 0 && !chunk.usage));
    assert.ok(["stop", "length"].includes(chunks.at(-1).choices[0].finish_reason));
  },
  async "a stream ends with the usage chunk that was asked for"() {
    const chunks = await collected(await chat({ stream: true, stream_options: { include_usage: true } }));
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.ok(chunks.at(-1).usage.completion_tokens > 0);
  },
  async "a stream can be left early"() {
    for await (const chunk of await chat({ stream: true })) {
      assert.ok(chunk);
      break;
    }
  },
  async "a forced tool is called with JSON arguments"() {
    const choice = { type: "function", function: { name: "get_weather" } };
    const answer = await chat({ tools: [weather], tool_choice: choice });
    const call = answer.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "get_weather");
    assert.equal(typeof JSON.parse(call.function.arguments), "object");
  },
  async "an answer by JSON schema is JSON"() {
    const schema = { type: "object", properties: { answer: { type: "string" } }, required: ["answer"] };
    const answer = await chat({ response_format: { type: "json_schema", json_schema: { name: "reply", schema } } });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content), "object");
  },
  async "an image in a message is taken"() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: pixel } },
    ];
    assert.ok((await chat({ messages: [{ role: "user", content }] })).choices[0].message.content);
  },
  async "several choices are answered"() {
    assert.deepEqual((await chat({ n: 3 })).choices.map((choice) => choice.index), [0, 1, 2]);
  },
  async "log probabilities are passed on"() {
    assert.ok((await chat({ logprobs: true, top_logprobs: 2 })).choices[0].logprobs.content.length > 0);
  },
  async "embeddings are made for each input, as the SDK asks for them: base64"() {
    const answer = await client().embeddings.create({ model: embeddingModel, input: ["one", "two"] });
    assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
    assert.ok(answer.data.every((item) => item.embedding.length > 0 && item.embedding.every(Number.isFinite)));
  },
  async "models are listed and shown"() {
    const names = (await collected(await client().models.list())).map((found) => found.id);
    assert.ok(names.includes(model) && names.includes(embeddingModel), String(names));
    assert.equal((await client().models.retrieve(model)).id, model);
  },
  async "unknown fields do not disturb"() {
    assert.ok((await chat({ a_field_of_tomorrow: { deep: [1, 2.5, null] } })).choices[0].message.content);
  },
  async "every answer has a request id"() {
    const { data, response, request_id } = await client()
      .chat.completions.create({ model, messages, max_tokens: 32 })
      .withResponse();
    assert.ok(request_id && response.headers.get("x-request-id") === request_id && data._request_id === request_id);
  },
  async "an unknown model is not found"() {
    const attributes = { status: 404, code: "model_not_found" };
    await rejected(OpenAI.NotFoundError, () => chat({ model: "no-such-model" }), attributes);
  },
  async "a wrong key is an authentication error"() {
    await rejected(OpenAI.AuthenticationError, () => chat({}, client("sk-wrong")), { status: 401 });
  },
  async "a request that cannot be read is a bad request"() {
    await rejected(OpenAI.BadRequestError, () => chat({ max_tokens: -1 }), { status: 400 });
  },
  async "an exhausted budget is 402 and not tried again"() {
    const broke = client(process.env.CFR_BROKE_KEY);
    const error = await rejected(OpenAI.APIError, () => chat({}, broke), { status: 402 });
    assert.equal(error.headers.get("x-should-retry"), "false");
    assert.ok("affordable_max_tokens" in error.error, JSON.stringify(error.error));
  },
  async "a rate limit is 429 with the time to wait"() {
    const limited = client(process.env.CFR_LIMITED_KEY, { maxRetries: 0 });
    await chat({ max_tokens: 16 }, limited);
    const error = await rejected(OpenAI.RateLimitError, () => chat({ max_tokens: 16 }, limited), { status: 429 });
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
  }
}
console.log(`openai ${VERSION}: ${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exitCode = failed;
