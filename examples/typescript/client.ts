// Submit a video, follow its progress, read the frames as a stream. No dependencies: copy it into your backend.

import { setTimeout as sleep } from "node:timers/promises";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";

import type { ErrorReply, FrameRecord, JobInput, ProgressMessage, Reply } from "./hmr2.d.ts";

export type State = "IN_QUEUE" | "IN_PROGRESS" | "COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT";

/** What /status answers and a webhook receives. While the job runs, `output` is its newest progress. */
export interface JobDocument {
  id: string;
  status: State;
  output?: Reply | ProgressMessage | Partial<ErrorReply>;
  error?: string;
  delayTime?: number;
  executionTime?: number;
  retries?: number;
}

const ENDED: readonly State[] = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

/** The job ended without a result; docs/05-errors.md lists the codes. */
export class JobFailed extends Error {
  readonly code: string;
  /** The same request may succeed later. */
  readonly retryable: boolean;

  constructor(document: JobDocument) {
    const details = (document.output ?? {}) as Partial<ErrorReply>;
    const message = document.error ?? document.status;
    super(message);
    this.name = "JobFailed";
    this.code = details.error_code ?? message.split(":")[0] ?? message;
    this.retryable = details.retryable ?? document.status === "TIMED_OUT";
  }
}

/** RunPod's job API (https://api.runpod.ai/v2/YOUR_ENDPOINT), or the same API on one machine. */
export class Endpoint {
  readonly #url: string;
  readonly #headers: Record<string, string>;

  constructor(url: string, apiKey?: string) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = { "Content-Type": "application/json" };
    if (apiKey) this.#headers["Authorization"] = `Bearer ${apiKey}`;
  }

  /** Queue a job; its id, which stays the same over retries. */
  async submit(input: JobInput, options: { webhook?: string; timeoutSeconds?: number } = {}): Promise<string> {
    const request = {
      input,
      policy: { executionTimeout: (options.timeoutSeconds ?? 3600) * 1000 },
      ...(options.webhook === undefined ? {} : { webhook: options.webhook }),
    };
    return (await this.#call("POST", "run", request)).id;
  }

  async status(jobId: string): Promise<JobDocument> {
    return this.#call("GET", `status/${encodeURIComponent(jobId)}`);
  }

  async cancel(jobId: string): Promise<JobDocument> {
    return this.#call("POST", `cancel/${encodeURIComponent(jobId)}`);
  }

  /** The job's status documents, one a second, up to the last. */
  async *follow(jobId: string, everyMs = 1000): AsyncGenerator<JobDocument> {
    for (;;) {
      const document = await this.status(jobId);
      yield document;
      if (ENDED.includes(document.status)) return;
      await sleep(everyMs);
    }
  }

  /** The reply of a job that has ended; throws JobFailed if it has none. */
  async result(jobId: string): Promise<Reply> {
    const document = await this.status(jobId);
    if (document.status !== "COMPLETED") throw new JobFailed(document);
    return document.output as Reply;
  }

  async #call(method: string, path: string, body?: unknown): Promise<JobDocument> {
    const reply = await fetch(`${this.#url}/${path}`, {
      method,
      headers: this.#headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(60_000),
    });
    if (!reply.ok) throw new Error(`the endpoint answered ${reply.status}: ${(await reply.text()).slice(0, 500)}`);
    return (await reply.json()) as JobDocument;
  }
}

/** The records of frames.jsonl.gz, one at a time: an hour of video needs no more memory than a second. */
export async function* readFrames(url: string): AsyncGenerator<FrameRecord> {
  const reply = await fetch(url);
  if (!reply.ok || reply.body === null) throw new Error(`the frames answered ${reply.status}`);
  const gunzip = createGunzip();
  const source = Readable.fromWeb(reply.body as Parameters<typeof Readable.fromWeb>[0]);
  source.on("error", (error) => gunzip.destroy(error)).pipe(gunzip); // a cut connection must not look like the end
  for await (const line of createInterface({ input: gunzip, crlfDelay: Infinity })) {
    yield JSON.parse(line) as FrameRecord;
  }
}
