// node dist/main.js KEY_OF_A_VIDEO_IN_THE_BUCKET [--webhook] [--options '{"end_s": 2}']
//
// Settings from the environment: ENDPOINT_URL, ENDPOINT_API_KEY, BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID,
// BUCKET_SECRET_ACCESS_KEY, BUCKET_NAME, BUCKET_REGION. `python -m handler serve` writes them to its client.env:
// node --env-file=var/endpoint/client.env dist/main.js videos/clip.mp4
//
// The worker gets presigned URLs only, to read the video and to write the results: it needs no keys of the bucket.

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";

import { Endpoint, JobFailed, readFrames } from "./client.ts";
import type { JobDocument } from "./client.ts";
import type { JobInput, Options, ProgressMessage } from "./hmr2.d.ts";
import { presign } from "./presign.ts";
import type { Bucket } from "./presign.ts";
import { listenForWebhook } from "./webhook.ts";

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

function progress(document: JobDocument): string {
  if (document.status !== "IN_PROGRESS" || document.output === undefined) return document.status;
  const { stage, frames_done, frames_total } = document.output as ProgressMessage;
  return `${document.status} ${stage} ${frames_done}/${frames_total ?? "?"} frames`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { webhook: { type: "boolean", default: false }, options: { type: "string", default: "{}" } },
    allowPositionals: true,
  });
  const videoKey = positionals[0];
  if (videoKey === undefined) throw new Error("which video? give its key in the bucket");
  const bucket: Bucket = {
    endpointUrl: process.env["BUCKET_ENDPOINT_URL"],
    accessKeyId: setting("BUCKET_ACCESS_KEY_ID"),
    secretAccessKey: setting("BUCKET_SECRET_ACCESS_KEY"),
    name: setting("BUCKET_NAME"),
    region: process.env["BUCKET_REGION"] ?? "us-east-1",
  };
  const endpoint = new Endpoint(setting("ENDPOINT_URL"), process.env["ENDPOINT_API_KEY"]);

  const folder = `jobs/${randomUUID()}`;
  const input: JobInput = {
    video_url: presign(bucket, "GET", videoKey, 6 * 3600),
    output: {
      put_urls: {
        "result.json": presign(bucket, "PUT", `${folder}/result.json`, 6 * 3600),
        "frames.jsonl.gz": presign(bucket, "PUT", `${folder}/frames.jsonl.gz`, 6 * 3600),
      },
    },
    options: JSON.parse(values.options) as Options,
  };

  let jobId: string;
  if (values.webhook) {
    const webhook = await listenForWebhook();
    jobId = await endpoint.submit(input, { webhook: webhook.url });
    console.log(`job ${jobId}`);
    await webhook.called;
    webhook.close();
    console.log("webhook called");
  } else {
    jobId = await endpoint.submit(input);
    console.log(`job ${jobId}`);
    let shown = "";
    for await (const document of endpoint.follow(jobId)) {
      const line = progress(document);
      if (line !== shown) console.log((shown = line));
    }
  }
  const reply = await endpoint.result(jobId);

  const seen = new Map<number, number>();
  for await (const frame of readFrames(presign(bucket, "GET", `${folder}/frames.jsonl.gz`))) {
    for (const person of frame.people) seen.set(person.track_id, (seen.get(person.track_id) ?? 0) + 1);
  }
  console.log(`${reply.frames} frames, ${reply.people} people, models: ${reply.models}`);
  for (const [id, count] of [...seen].sort(([a], [b]) => a - b)) console.log(`person ${id}: in ${count} frames`);
  for (const warning of reply.warnings) console.log(`warning ${warning.code}: ${warning.message}`);
}

main().catch((error: unknown) => {
  if (error instanceof JobFailed) {
    console.error(`failed: ${error.message} (${error.retryable ? "try again later" : "do not retry as it is"})`);
  } else {
    console.error(error instanceof Error ? error.message : error);
  }
  process.exitCode = 1;
});
