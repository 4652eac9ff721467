// The OpenAI SDK for JavaScript, unchanged but for its base URL and key, against upstreams of both shapes.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.RELAY_URL}/v1`, apiKey: process.env.RELAY_TOKEN, maxRetries: 0 });
const pixel =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const user = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const streaming = (request) => (client.chat.completions.stream ? client.chat.completions : client.beta.chat.completions).stream(request);

for (const model of ["chat-model", "messages-model"]) {
  test(`${model}: creates`, async () => {
    const answer = await client.chat.completions.create({ model, messages: user("Hello there") });
    assert.match(answer.choices[0].message.content, /Hello there/);
    assert.equal(answer.choices[0].finish_reason, "stop");
  });

  test(`${model}: streams into the SDK's accumulator`, async () => {
    const final = await streaming({ model, messages: user("Hello there") }).finalChatCompletion();
    const whole = await client.chat.completions.create({ model, messages: user("Hello there") });
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  });

  test(`${model}: loops through parallel tool calls`, async () => {
    const messages = user("What is the weather in Paris and in Rome?");
    const first = await streaming({ model, messages, tools: [weather] }).finalChatCompletion();
    const calls = first.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments)), [{ city: "Paris" }, { city: "Rome" }]);
    messages.push({ role: "assistant", content: null, tool_calls: calls });
    for (const call of calls) messages.push({ role: "tool", tool_call_id: call.id, content: "sunny" });
    const second = await client.chat.completions.create({ model, messages, tools: [weather] });
    assert.match(second.choices[0].message.content, /sunny/);
  });

  test(`${model}: keeps to a schema`, async () => {
    const schema = {
      type: "object",
      properties: { city: { type: "string" }, inhabitants: { type: "integer" } },
      required: ["city", "inhabitants"],
      additionalProperties: false,
    };
    const format = { type: "json_schema", json_schema: { name: "place", strict: true, schema } };
    const request = { model, messages: user("Name a place"), response_format: format };
    const parse = client.chat.completions.parse ? client.chat.completions : client.beta.chat.completions;
    const answer = await parse.parse(request);
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: "demo", inhabitants: 1 });
  });

  test(`${model}: sends images`, async () => {
    const content = [{ type: "text", text: "Look" }, { type: "image_url", image_url: { url: pixel } }];
    const answer = await client.chat.completions.create({ model, messages: user(content) });
    assert.match(answer.choices[0].message.content, /1 image\(s\)/);
  });

  test(`${model}: shows reasoning`, async () => {
    const request = { model, messages: user("Think"), reasoning_effort: "high" };
    const answer = await client.chat.completions.create(request);
    assert.match(answer.choices[0].message.reasoning_content, /thinks/);
    let streamed = "";
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed += chunk.choices[0]?.delta?.reasoning_content ?? "";
    }
    assert.match(streamed, /thinks/);
  });

  test(`${model}: raises typed errors`, async () => {
    const shape = model.split("-")[0];
    const ask = (name) => client.chat.completions.create({ model: name, messages: user("Hello") });
    await assert.rejects(ask(`${shape}-fails-429`), OpenAI.RateLimitError);
    await assert.rejects(ask(`${shape}-fails-400`), OpenAI.BadRequestError);
    await assert.rejects(ask(`${shape}-fails-500`), OpenAI.InternalServerError);
    await assert.rejects(ask(`${shape}-fails-404`), OpenAI.NotFoundError);
    await assert.rejects(ask("no-such-model"), OpenAI.NotFoundError);
    await assert.rejects(ask("forbidden"), OpenAI.PermissionDeniedError);
    const stranger = new OpenAI({ baseURL: `${process.env.RELAY_URL}/v1`, apiKey: "nobody-knows-this-token", maxRetries: 0 });
    const refused = stranger.chat.completions.create({ model, messages: user("Hello") });
    await assert.rejects(refused, OpenAI.AuthenticationError);
  });
}

test("lists models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes("chat-model") && ids.includes("messages-model") && !ids.includes("forbidden"));
});
