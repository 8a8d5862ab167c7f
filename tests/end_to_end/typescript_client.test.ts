// The parts of the TypeScript client, against servers and callers that misbehave. Run beside the client's files.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { Endpoint } from "./client.ts";
import { JobFailed, ServerError } from "./errors.ts";
import { upload } from "./http.ts";
import { WebhookReceiver } from "./webhook.ts";

const WAITING = { id: "j", status: "IN_QUEUE" };
const RUNNING = { id: "j", status: "IN_PROGRESS" };
const DONE = { id: "j", status: "COMPLETED", output: { status: "completed" } };
const input = { video_url: "https://example.com/clip.mp4" };

function failure(code: string, retryable: boolean) {
  return { id: "j", status: "FAILED", error: `${code}: why`, output: { error_code: code, retryable } };
}

type Answer = object | number | "hang up";

/** A server that gives these answers in turn, the last one for ever, while `use` runs; the calls that came. */
async function scripted(answers: Answer[], use: (url: string) => Promise<void>): Promise<string[]> {
  const calls: string[] = [];
  const server = createServer(async (request: IncomingMessage, response) => {
    const body = await text(request);
    calls.push(`${request.method} ${request.url} ${request.headers["content-length"] ?? "-"} ${body.length}`);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === "hang up") response.destroy();
    else if (typeof answer === "number") response.writeHead(answer).end('{"error": "told to refuse"}');
    else response.end(JSON.stringify(answer));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`).finally(() => {
    server.close();
    server.closeAllConnections();
  });
  return calls;
}

test("follow survives failed polls", async () => {
  const seen: string[] = [];
  const calls = await scripted([WAITING, 503, 500, "hang up", 429, RUNNING, "hang up", DONE], async (url) => {
    for await (const { status } of new Endpoint(url, undefined, 1).follow("j", { everyMs: 1 })) seen.push(status);
  });
  assert.deepEqual(seen, ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]);
  assert.equal(calls.length, 8);
});

for (const status of [400, 401, 404]) {
  test(`follow ends at ${status}`, async () => {
    const calls = await scripted([RUNNING, status], async (url) => {
      const result = new Endpoint(url, undefined, 1).result("j", { everyMs: 1 });
      await assert.rejects(result, { name: "ServerError", retryable: false, status, message: /told to refuse/ });
    });
    assert.equal(calls.length, 2);
  });
}

test("follow gives up after failed polls in a row, in time, and when it is told to", async () => {
  const calls = await scripted([503], async (url) => {
    await assert.rejects(new Endpoint(url, undefined, 0).result("j"), { status: 503 });
  });
  assert.equal(calls.length, 8);
  for (const answer of [RUNNING, 503]) {
    await scripted([answer], async (url) => {
      const late = { message: "job j has not ended in 0.1 seconds; it goes on", retryable: true };
      await assert.rejects(new Endpoint(url, undefined, 60_000).result("j", { timeoutMs: 100 }), late);
      const stop = new AbortController();
      setTimeout(() => stop.abort(new Error("enough")), 100);
      const stopped = new Endpoint(url, undefined, 60_000).result("j", { everyMs: 60_000, signal: stop.signal });
      await assert.rejects(stopped, { message: "enough" });
    });
  }
});

test("submit never queues twice", async () => {
  const calls = await scripted([429, 503, WAITING], async (url) => {
    assert.equal(await new Endpoint(url, undefined, 1).submit(input), "j");
  });
  assert.equal(calls.length, 3);
  for (const answer of ["hang up", 500, 400] as Answer[]) {
    const once = await scripted([answer, WAITING], async (url) => {
      await assert.rejects(new Endpoint(url, undefined, 1).submit(input), ServerError);
    });
    assert.equal(once.length, 1);
  }
});

test("a job is retried only if it says so", async () => {
  const retries = (calls: string[]) => calls.filter((call) => call.startsWith("POST /retry/j")).length;
  const result = (url: string) => new Endpoint(url).result("j", { everyMs: 1 });
  const passing = failure("GPU_FAULT", true);
  const calls = await scripted([passing, WAITING, RUNNING, DONE], async (url) => {
    assert.deepEqual(await result(url), DONE.output);
  });
  assert.equal(retries(calls), 1);
  const thrice = await scripted([passing], async (url) => {
    await assert.rejects(result(url), { name: "JobFailed", code: "GPU_FAULT", advice: "try again later" });
  });
  assert.equal(retries(thrice), 2);
  const endings: [object, string, RegExp][] = [
    [failure("VIDEO_UNREADABLE", false), "VIDEO_UNREADABLE", /re-encode/],
    [{ status: "FAILED", error: "VIDEO_TOO_LONG: why" }, "VIDEO_TOO_LONG", /start_s/],
    [{ status: "FAILED", error: "job died", output: "odd" }, "job died", /docs\/05-errors.md/],
    [{ status: "TIMED_OUT" }, "TIMED_OUT", /more time/],
    [{ status: "CANCELLED" }, "CANCELLED", /somebody cancelled/],
  ];
  for (const [document, code, advice] of endings) {
    const once = await scripted([document], async (url) => {
      await assert.rejects(result(url), (error) => {
        assert(error instanceof JobFailed);
        assert.equal(error.code, code);
        assert.match(error.advice, advice);
        return !error.retryable;
      });
    });
    assert.equal(once.length, 1);
  }
});

test("an upload has its length, and is made again only if that may help", async () => {
  const file = join(await mkdtemp(join(tmpdir(), "upload-")), "clip.mp4");
  await writeFile(file, "x".repeat(300_000));
  const patience = { firstPauseMs: 1 };
  const calls = await scripted([503, {}], async (url) => upload(file, `${url}/clip.mp4?signed`, patience));
  assert.deepEqual(calls, Array(2).fill("PUT /clip.mp4?signed 300000 300000"));
  const refused = await scripted([403, {}], async (url) => {
    const error = { status: 403, message: /^http:\/\/[^?]+\/clip.mp4 answered 403: told to refuse$/ };
    await assert.rejects(upload(file, `${url}/clip.mp4?signed`, patience), error);
  });
  assert.equal(refused.length, 1);
});

/** The status with which a webhook answers. */
async function call(url: string, body: string | Uint8Array<ArrayBuffer>, method = "POST"): Promise<number> {
  return (await fetch(url, { method, ...(method === "GET" ? {} : { body }) })).status;
}

test("the webhook receiver refuses bad calls and lives", async () => {
  const receiver = await WebhookReceiver.listen();
  let ended = 0;
  void receiver.called("j").then(() => ended++);
  const good = JSON.stringify({ ...DONE, input });
  assert.equal(await call(receiver.url.replace(/token=.*/, "token=guess"), good), 403);
  assert.equal(await call(`${receiver.url}0`, good), 403);
  assert.equal(await call(receiver.url, "", "GET"), 405);
  assert.equal(await call(receiver.url, "x".repeat(1_000_001)), 413);
  for (const body of ["", new Uint8Array([255, 0]), "{", "[".repeat(100_000), "[]", "null", "7", good.slice(0, -9)]) {
    assert.equal(await call(receiver.url, body), 400);
  }
  for (const document of [{}, { id: 7, status: "COMPLETED" }, { id: "j" }, RUNNING, { id: "j", status: [] }]) {
    assert.equal(await call(receiver.url, JSON.stringify(document)), 400);
  }
  for (const id of ["other", "__proto__"]) {
    assert.equal(await call(receiver.url, JSON.stringify({ ...DONE, id })), 404);
  }
  const { port, pathname, search } = new URL(receiver.url);
  for (const sent of [`POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n{`, "garbage\r\n\r\n"]) {
    const socket = connect(Number(port), "127.0.0.1").end(sent); // hangs up in the middle, or speaks no HTTP
    socket.on("error", () => {}).resume();
    await once(socket, "close");
  }
  assert.equal(ended, 0);
  assert.equal(await call(receiver.url, good), 200);
  assert.equal(ended, 1);
  assert.equal(await call(receiver.url, good), 200); // RunPod may call twice
  receiver.close();
});

test("a webhook ends a pause", async () => {
  const receiver = await WebhookReceiver.listen();
  await scripted([RUNNING, DONE], async (url) => {
    const called = () => receiver.called("j");
    const followed = new Endpoint(url).follow("j", { everyMs: 600_000, called });
    assert.equal((await followed.next()).value?.status, "IN_PROGRESS");
    assert.equal(await call(receiver.url, JSON.stringify(DONE)), 200);
    assert.equal((await followed.next()).value?.status, "COMPLETED");
  });
  receiver.close();
});
