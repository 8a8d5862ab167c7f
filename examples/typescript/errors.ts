// What can go wrong, whether it may pass, and what to do about it. docs/05-errors.md has every code.

import type { JobDocument } from "./client.ts";
import type { ErrorReply } from "./hmr2.d.ts";

/** A server (the endpoint or the bucket) did not answer, or did not do what it was asked. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  /** HTTP status; undefined if there was no answer. */
  readonly status: number | undefined;
  /** The same call may succeed later. */
  readonly retryable: boolean;

  constructor(message: string, status?: number) {
    super(message);
    this.status = status;
    this.retryable = status === undefined || status === 429 || status >= 500;
  }
}

/** The job ended without a result. */
export class JobFailed extends Error {
  override readonly name = "JobFailed";
  /** E.g. VIDEO_UNREADABLE, or TIMED_OUT. */
  readonly code: string;
  /** The same request may succeed later. */
  readonly retryable: boolean;
  /** What to do. */
  readonly advice: string;

  constructor(document: JobDocument) {
    const details = (document.output ?? {}) as Partial<ErrorReply>;
    const message = String(document.error ?? document.status);
    super(message);
    this.code = details.error_code ?? message.split(":", 1)[0]!;
    this.retryable = details.retryable === true;
    this.advice = this.retryable ? "try again later" : (ADVICE[this.code] ?? "see docs/05-errors.md");
  }
}

/** What the caller can do about each ending that comes again if the same request is sent again. */
const ADVICE: Record<string, string> = {
  INPUT_INVALID: "correct the request; the message names the field",
  URL_NOT_ALLOWED: "give a public https link",
  VIDEO_TOO_LARGE: "re-encode the video smaller, or raise the worker's VIDEO_MAX_...",
  VIDEO_TOO_LONG: "ask for a part with start_s and end_s, or raise the worker's VIDEO_MAX_...",
  DUPLICATE_JOB: "this id is running with another input: submit a new job",
  DOWNLOAD_NOT_FOUND: "there is nothing at the link: check the key it was signed for",
  DOWNLOAD_DENIED: "the link has expired or was signed wrongly: sign a new one",
  VIDEO_UNREADABLE: "check that the file is a video, or re-encode it as MP4 with H.264",
  VIDEO_HAS_NO_FRAMES: "check that start_s lies within the video",
  MODEL_OUTPUT_INVALID: "report it to whoever runs the endpoint, with the video",
  UPLOAD_DENIED: "check what the worker's keys may write, or sign new upload links",
  OUTPUT_NOT_ALLOWED: "send output.put_urls, or give the worker a bucket",
  TIME_BUDGET_EXCEEDED: "send shorter parts, or raise the worker's WORKER_TIME_BUDGET_SECONDS",
  INTERNAL: "report it to whoever runs the endpoint, with the job's id",
  EXECUTION_TIMEOUT: "give the job more time (--timeout), or send shorter parts",
  TIMED_OUT: "give the job more time (--timeout), or send shorter parts",
  WORKER_LOST: "every worker that took it ended: look at the workers' logs",
  RESULT_INVALID: "report it to whoever runs the endpoint, with the job's id",
  RESULT_TOO_LARGE: "report it to whoever runs the endpoint, with the job's id",
  CANCELLED: "somebody cancelled it; nothing was stored",
};
