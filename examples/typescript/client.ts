// Submit a video, follow its progress, read the frames as a stream. No dependencies: copy it into your backend.

import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { createGunzip } from "node:zlib";

import { JobFailed, ServerError } from "./errors.ts";
import type { ErrorReply, FrameRecord, JobInput, ProgressMessage, Reply } from "./hmr2.d.ts";
import { patiently, request } from "./http.ts";

const ENDED = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"] as const;
export type State = "IN_QUEUE" | "IN_PROGRESS" | (typeof ENDED)[number];

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

export interface FollowOptions {
  /** The pause between polls. Default: 1 second. */
  everyMs?: number;
  /** Give up after so long; the job goes on. Default: 6 hours. */
  timeoutMs?: number;
  /** Give up when it is aborted; the job goes on until it is cancelled. */
  signal?: AbortSignal;
  /** A promise that ends a pause early, when the job's webhook is called. */
  called?: () => Promise<void>;
}

export interface ResultOptions extends FollowOptions {
  /** How often to run a job that fails in a way that may pass. Default: 3. */
  attempts?: number;
  /** Told of every status document. */
  onStatus?: (document: JobDocument) => void;
}

/** RunPod's job API (https://api.runpod.ai/v2/YOUR_ENDPOINT), or the same API on one machine. */
export class Endpoint {
  readonly #url: string;
  readonly #retryMs: number;
  readonly #headers: Record<string, string> = {
    "Content-Type": "application/json",
    "User-Agent": "hmr2-example-client/1",
  };

  /** `retryMs` is the first pause before a call is made again; each further one is twice as long. */
  constructor(url: string, apiKey?: string, retryMs = 1000) {
    this.#url = url.replace(/\/+$/, "");
    this.#retryMs = retryMs;
    if (apiKey) this.#headers["Authorization"] = `Bearer ${apiKey}`;
  }

  /** Find out that address and key are right, before anything is uploaded. */
  async check(): Promise<void> {
    try {
      await this.#call("GET", "health");
    } catch (error) {
      if (!(error instanceof ServerError) || ![401, 403, 404].includes(error.status ?? 0)) throw error;
      throw new ServerError(`${error.message}; check ENDPOINT_URL and ENDPOINT_API_KEY`, error.status);
    }
  }

  /** Queue a job; its id, which stays the same over retries. */
  async submit(input: JobInput, webhook?: string, timeoutSeconds = 3600): Promise<string> {
    const body = { input, webhook, policy: { executionTimeout: timeoutSeconds * 1000 } };
    const submitted = await patiently(() => this.#call("POST", "run", body), {
      // Sent again only if the answer was "not now": if it got lost, the job may be queued already.
      when: (error) => error.status === 429 || error.status === 503,
      firstPauseMs: this.#retryMs,
    });
    return submitted.id;
  }

  /** The job's status; a poll that fails is made again, with growing pauses. */
  async status(jobId: string, signal?: AbortSignal): Promise<JobDocument> {
    const poll = () => this.#call("GET", `status/${encodeURIComponent(jobId)}`, undefined, signal);
    return patiently(poll, { firstPauseMs: this.#retryMs, signal });
  }

  /** End a job, queued or running. */
  async cancel(jobId: string): Promise<void> {
    await this.#call("POST", `cancel/${encodeURIComponent(jobId)}`);
  }

  /** Queue a failed job again, with the same id and input. */
  async retry(jobId: string): Promise<void> {
    await this.#call("POST", `retry/${encodeURIComponent(jobId)}`);
  }

  /** The job's status documents up to the last; throws if it does not end in time. */
  async *follow(jobId: string, options: FollowOptions = {}): AsyncGenerator<JobDocument> {
    const { everyMs = 1000, timeoutMs = 6 * 3600_000, signal, called } = options;
    const late = AbortSignal.timeout(timeoutMs);
    const stop = signal ? AbortSignal.any([signal, late]) : late;
    try {
      for (;;) {
        const isCalled = called?.(); // before the poll, so that no call falls between
        const document = await this.status(jobId, stop);
        yield document;
        if (hasEnded(document)) return;
        await pause(everyMs, stop, isCalled);
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!late.aborted) throw error;
      throw new ServerError(`job ${jobId} has not ended in ${timeoutMs / 1000} seconds; it goes on`);
    }
  }

  /** The reply of a job, once it has ended; throws JobFailed if it has none. */
  async result(jobId: string, options: ResultOptions = {}): Promise<Reply> {
    for (let attempt = 1; ; attempt++) {
      let document: JobDocument | undefined;
      for await (document of this.follow(jobId, options)) options.onStatus?.(document);
      if (document?.status === "COMPLETED") return document.output as Reply;
      const failure = new JobFailed(document!);
      if (!failure.retryable || attempt >= (options.attempts ?? 3)) throw failure;
      await this.retry(jobId);
    }
  }

  async #call(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<JobDocument> {
    const url = `${this.#url}/${path}`;
    const answer = await request(url, {
      method,
      headers: this.#headers,
      body: body === undefined ? null : JSON.stringify(body),
      timeoutMs: 60_000,
      signal,
    });
    const document = await answer.json().catch(() => undefined);
    if (typeof document === "object" && document !== null) return document as JobDocument;
    signal?.throwIfAborted();
    throw new ServerError(`${url} answered with something that is no JSON object`);
  }
}

/** Whether it is the last thing that will be said of a job. */
export function hasEnded({ status }: { status?: unknown }): boolean {
  return (ENDED as readonly unknown[]).includes(status);
}

/** The records of frames.jsonl.gz, one at a time: an hour of video needs no more memory than a second. */
export async function* readFrames(url: string, signal?: AbortSignal): AsyncGenerator<FrameRecord> {
  const answer = await request(url, { signal });
  const gunzip = createGunzip();
  const source = Readable.fromWeb(answer.body as Parameters<typeof Readable.fromWeb>[0]);
  source.on("error", (error) => gunzip.destroy(error)).pipe(gunzip); // a cut connection must not look like the end
  for await (const line of createInterface({ input: gunzip, crlfDelay: Infinity })) {
    yield JSON.parse(line) as FrameRecord;
  }
}

/** Wait so long, or until `called` resolves. */
async function pause(ms: number, signal: AbortSignal, called?: Promise<void>): Promise<void> {
  const over = new AbortController();
  const timer = sleep(ms, undefined, { signal: AbortSignal.any([signal, over.signal]) });
  await (called ? Promise.race([timer, called]) : timer).finally(() => over.abort());
}
