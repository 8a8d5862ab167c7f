// node dist/main.js VIDEO [--options '{"end_s": 2}'] [--timeout SECONDS] [--webhook]
//
// VIDEO is a presigned URL, or a local file, which is uploaded first. --timeout is how long the job may run.
// --webhook waits for the webhook instead of polling, on loopback at --webhook-port; --webhook-url is where the
// world reaches that port.
//
// Settings from the environment: ENDPOINT_URL, ENDPOINT_API_KEY, BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID,
// BUCKET_SECRET_ACCESS_KEY, BUCKET_NAME, BUCKET_REGION. `python -m handler serve` writes them to its client.env:
// node --env-file=var/endpoint/client.env dist/main.js clip.mp4
//
// The worker gets presigned URLs only, to read the video and to write the results: it needs no keys of the bucket.
//
// Exit codes: 0 the job has a result; 1 it failed, and would again; 2 a word, a setting, a file or a key is wrong;
// 3 something did not answer, or failed in a way that may pass: try again later; 130 Ctrl-C, which cancels the job.

import { randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";

import { Endpoint, readFrames } from "./client.ts";
import type { JobDocument } from "./client.ts";
import { JobFailed, ServerError } from "./errors.ts";
import type { JobInput, Options, ProgressMessage, Reply } from "./hmr2.d.ts";
import { upload } from "./http.ts";
import { presign } from "./presign.ts";
import type { Bucket } from "./presign.ts";
import { WebhookReceiver } from "./webhook.ts";

const LINK_SECONDS = 6 * 3600; // how long links live; a job that has not ended by then cannot succeed

/** A word, a setting or a file that this program cannot work with. */
class WrongUse extends Error {}

function words() {
  try {
    const { values, positionals } = parseArgs({
      options: {
        options: { type: "string", default: "{}" },
        timeout: { type: "string", default: "3600" },
        webhook: { type: "boolean", default: false },
        "webhook-port": { type: "string", default: "0" },
        "webhook-url": { type: "string" },
      },
      allowPositionals: true,
    });
    const video = positionals[0];
    if (video === undefined || positionals.length > 1) throw new Error("give one video: a file or a link");
    const timeoutSeconds = Number(values.timeout);
    if (!(timeoutSeconds > 0)) throw new Error("--timeout: give seconds, e.g. 3600");
    const options = JSON.parse(values.options) as Options | null;
    if (typeof options !== "object" || options === null) throw new SyntaxError('give a JSON object: {"end_s": 2}');
    return { ...values, video, timeoutSeconds, options };
  } catch (error) {
    const where = error instanceof SyntaxError ? "--options: " : "";
    throw new WrongUse(where + (error as Error).message);
  }
}

function settings(): { endpointUrl: string; apiKey: string | undefined; bucket: Bucket } {
  const needed = ["ENDPOINT_URL", "BUCKET_NAME", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY"];
  const get = (name: string) => process.env[name]?.trim() || undefined; // an empty one counts as missing
  const missing = needed.filter((name) => !get(name));
  if (missing.length > 0) {
    throw new WrongUse(`not set: ${missing.join(", ")}; set them, or name a file with them (node --env-file=...)`);
  }
  const [endpointUrl, apiKey] = [get("ENDPOINT_URL")!, get("ENDPOINT_API_KEY")];
  if (!/^https?:\/\//.test(endpointUrl)) throw new WrongUse("ENDPOINT_URL must begin with https:// or http://");
  if (apiKey && !/^[!-~]*$/.test(apiKey)) throw new WrongUse("ENDPOINT_API_KEY holds a character that no key has");
  const bucket = {
    endpointUrl: get("BUCKET_ENDPOINT_URL"),
    accessKeyId: get("BUCKET_ACCESS_KEY_ID")!,
    secretAccessKey: get("BUCKET_SECRET_ACCESS_KEY")!,
    name: get("BUCKET_NAME")!,
    region: get("BUCKET_REGION") ?? "us-east-1",
  };
  return { endpointUrl, apiKey, bucket };
}

/** A link to the video; a local file is stored in the bucket first. */
async function link(video: string, bucket: Bucket, signal: AbortSignal): Promise<string> {
  if (video.includes("://")) return video;
  const key = `videos/${randomUUID()}/${basename(video)}`;
  await upload(video, presign(bucket, "PUT", key, LINK_SECONDS), { calls: 4, signal });
  console.log(`uploaded ${video} as ${key} to the bucket ${bucket.name}`);
  return presign(bucket, "GET", key, LINK_SECONDS);
}

/** Prints what is new in each status document. */
function progressPrinter(): (document: JobDocument) => void {
  let shown = "";
  return ({ status, output }) => {
    let line: string = status;
    if (status === "IN_PROGRESS" && output && "frames_done" in output) {
      const { stage, frames_done, frames_total } = output as ProgressMessage;
      line += ` ${stage} ${frames_done}/${frames_total ?? "?"} frames`;
    }
    if (line !== shown) console.log((shown = line));
  };
}

/** A job's reply; its progress is printed, and it is cancelled if `signal` is aborted. */
async function followed(
  endpoint: Endpoint,
  jobId: string,
  receiver: WebhookReceiver | undefined,
  signal: AbortSignal,
): Promise<Reply> {
  // A call that got lost costs a minute, not the result.
  const pace = receiver ? { called: () => receiver.called(jobId), everyMs: 60_000 } : {};
  const limits = { timeoutMs: LINK_SECONDS * 1000, signal };
  try {
    return await endpoint.result(jobId, { ...pace, ...limits, onStatus: progressPrinter() });
  } catch (error) {
    if (signal.aborted) {
      await endpoint.cancel(jobId);
      console.error(`cancelled job ${jobId}`);
    }
    throw error;
  }
}

async function main(signal: AbortSignal): Promise<void> {
  const { video, options, timeoutSeconds, ...asked } = words();
  const { endpointUrl, apiKey, bucket } = settings();
  if (!video.includes("://") && !statSync(video, { throwIfNoEntry: false })?.isFile()) {
    throw new WrongUse(`there is no file ${video}`);
  }
  const endpoint = new Endpoint(endpointUrl, apiKey);
  await endpoint.check();

  const receiver = asked.webhook
    ? await WebhookReceiver.listen(Number(asked["webhook-port"]), asked["webhook-url"])
    : undefined;
  const folder = `jobs/${randomUUID()}`;
  const place = (name: string) => presign(bucket, "PUT", `${folder}/${name}`, LINK_SECONDS);
  let reply: Reply;
  try {
    const input: JobInput = {
      video_url: await link(video, bucket, signal),
      output: {
        put_urls: {
          "result.json": place("result.json"),
          "frames.jsonl.gz": place("frames.jsonl.gz"),
          ...Object.fromEntries([options.artifacts ?? []].flat().map((name) => [name, place(name)])),
        },
      },
      options,
    };
    const jobId = await endpoint.submit(input, receiver?.url, timeoutSeconds);
    console.log(`job ${jobId}`);
    reply = await followed(endpoint, jobId, receiver, signal);
  } finally {
    receiver?.close();
  }

  const seen = new Map<number, number>();
  for await (const frame of readFrames(presign(bucket, "GET", `${folder}/frames.jsonl.gz`), signal)) {
    for (const person of frame.people) seen.set(person.track_id, (seen.get(person.track_id) ?? 0) + 1);
  }
  console.log(`${reply.frames} frames, ${reply.people} people, models: ${reply.models}`);
  for (const [id, count] of [...seen].sort(([a], [b]) => a - b)) console.log(`person ${id}: in ${count} frames`);
  for (const warning of reply.warnings) console.log(`warning ${warning.code}: ${warning.message}`);
  for (const { kind } of reply.artifacts) console.log(`stored ${folder}/${kind} in the bucket ${bucket.name}`);
}

/** Say what went wrong; the exit code. */
function failed(error: unknown, signal: AbortSignal): number {
  if (signal.aborted && !(error instanceof ServerError)) return 130;
  if (error instanceof JobFailed) {
    console.error(`failed: ${error.message}\nwhat to do: ${error.advice}`);
    return error.retryable ? 3 : 1;
  }
  console.error(error instanceof Error ? error.message : error);
  return error instanceof ServerError && error.retryable ? 3 : 2;
}

const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
main(interrupt.signal).catch((error: unknown) => (process.exitCode = failed(error, interrupt.signal)));
