// Requests that say what went wrong, and calls that are made again while their error may pass.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { ServerError } from "./errors.ts";

const LONGEST_PAUSE_MS = 60_000;

export interface Patience {
  /** How many calls at most. Default: 8, which takes three minutes. */
  calls?: number;
  /** Which errors may pass. Default: those that say so. */
  when?: (error: ServerError) => boolean;
  /** The first pause before a call is made again; each further one is twice as long. Default: 1 second. */
  firstPauseMs?: number;
  signal?: AbortSignal | undefined;
}

type Call = Omit<RequestInit, "signal"> & { timeoutMs?: number; signal?: AbortSignal | undefined };

/** `fetch`, but everything that is not a success is a ServerError, unless `signal` was aborted. */
export async function request(url: string, { timeoutMs, signal, ...init }: Call): Promise<Response> {
  const { origin, pathname } = new URL(url); // without the query, which may be a signature
  const signals = [signal, timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs)];
  let answer: Response;
  try {
    answer = await fetch(url, { ...init, signal: AbortSignal.any(signals.filter((one) => one !== undefined)) });
  } catch (error) {
    signal?.throwIfAborted();
    const { code, message } = ((error as Error).cause ?? error) as { code?: string; message?: string };
    throw new ServerError(`nothing answers at ${origin}${pathname} (${code ?? message}); is it running?`);
  }
  if (answer.ok) return answer;
  const text = await answer.text().catch(() => "");
  throw new ServerError(`${origin}${pathname} answered ${answer.status}: ${said(text)}`, answer.status);
}

/** What `call` gives; after an error that may pass it is made again, with growing pauses. */
export async function patiently<T>(call: () => Promise<T>, patience: Patience = {}): Promise<T> {
  const { calls = 8, when = (error) => error.retryable, firstPauseMs = 1000, signal } = patience;
  for (let failed = 1; ; failed++) {
    try {
      return await call();
    } catch (error) {
      if (failed >= calls || !(error instanceof ServerError) || !when(error)) throw error;
    }
    const pauseMs = Math.min(firstPauseMs * 2 ** (failed - 1), LONGEST_PAUSE_MS);
    await sleep(pauseMs, undefined, signal ? { signal } : {});
  }
}

/** Store a local file (at most 5 GB, S3's limit for one PUT) at a presigned URL, as a stream. */
export async function upload(file: string, url: string, patience: Patience = {}): Promise<void> {
  await patiently(async () => {
    const { size } = await stat(file);
    const init = {
      method: "PUT",
      headers: { "Content-Length": String(size) }, // stores take no body of unknown length
      body: createReadStream(file),
      duplex: "half", // fetch wants it beside a stream; TypeScript's types know neither
    };
    await request(url, { ...(init as unknown as { body: BodyInit }), signal: patience.signal });
  }, patience);
}

/** The sentence in an error's body: JSON of the endpoint, XML of a store. */
function said(text: string): string {
  try {
    return String((JSON.parse(text) as { error: unknown }).error);
  } catch {
    return /<Message>(.*?)<\/Message>/.exec(text)?.[1] ?? text.slice(0, 300);
  }
}
