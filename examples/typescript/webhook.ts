// Listens for the calls that tell of a job's end.

import { randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { AddressInfo } from "node:net";

import { hasEnded } from "./client.ts";

const MAX_BYTES = 1_000_000; // more than any webhook of this worker
const MAX_MS = 30_000; // for a whole call

interface Waiting {
  called: Promise<void>;
  arrive: () => void;
}

/**
 * The address to give as `webhook`, and a promise per job id.
 *
 * Anyone may call an open address and RunPod signs nothing, so the address holds a secret token, and a call is
 * only a hint to ask /status for the truth. It may come twice, or never. It repeats the job's input with its
 * presigned URLs: do not log it.
 */
export class WebhookReceiver {
  readonly url: string;
  readonly #path: Buffer;
  readonly #server: Server;
  readonly #jobs = new Map<string, Waiting>(); // in a backend, a table of jobs

  /** Listen on loopback; `publicUrl` is where the world reaches that port, e.g. through a tunnel. */
  static async listen(port = 0, publicUrl?: string): Promise<WebhookReceiver> {
    const server = createServer({ requestTimeout: MAX_MS });
    server.listen(port, "127.0.0.1");
    await once(server, "listening"); // or throws: the port is taken
    return new WebhookReceiver(server, publicUrl ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  private constructor(server: Server, publicUrl: string) {
    const path = `done?token=${randomBytes(16).toString("hex")}`;
    this.url = `${publicUrl.replace(/\/+$/, "")}/${path}`;
    this.#path = Buffer.from(path);
    this.#server = server.on("request", (request, response) => {
      this.#receive(request).then(
        (status) => response.writeHead(status, { "Content-Length": 0 }).end(),
        () => response.destroy(), // the caller has gone
      );
    });
  }

  /** Resolves at the next call about this job; calls about jobs that nobody asks for are refused. */
  called(jobId: string): Promise<void> {
    return this.#expect(jobId).called;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #expect(jobId: string): Waiting {
    let waiting = this.#jobs.get(jobId);
    if (waiting === undefined) {
      let arrive = () => {};
      waiting = { called: new Promise((resolve) => (arrive = resolve)), arrive };
      this.#jobs.set(jobId, waiting);
    }
    return waiting;
  }

  /** The status to answer with: 200 is what RunPod wants, after any other it calls again. */
  async #receive(request: IncomingMessage): Promise<number> {
    const sent = Buffer.from(request.url?.split("/").pop() ?? "");
    if (sent.length !== this.#path.length || !timingSafeEqual(sent, this.#path)) return 403;
    if (request.method !== "POST") return 405;
    const parts: Buffer[] = [];
    let size = 0;
    for await (const part of request as AsyncIterable<Buffer>) {
      size += part.length;
      if (size <= MAX_BYTES) parts.push(part);
    }
    if (size > MAX_BYTES) return 413;
    const jobId = endedJob(Buffer.concat(parts).toString());
    if (jobId === undefined) return 400;
    const waiting = this.#jobs.get(jobId);
    if (waiting === undefined) return 404;
    this.#jobs.delete(jobId);
    this.#expect(jobId); // the job stays known: it may be called for again, and after a retry it ends again
    waiting.arrive();
    return 200;
  }
}

/** The id in a status document of a job that has ended; undefined if the text is anything else. */
function endedJob(text: string): string | undefined {
  try {
    const document = JSON.parse(text) as { id?: unknown; status?: unknown } | null;
    return typeof document?.id === "string" && hasEnded(document) ? document.id : undefined;
  } catch {
    return undefined;
  }
}
