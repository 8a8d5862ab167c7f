// Waits for one job's webhook.

import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import type { JobDocument } from "./client.ts";

/**
 * The address to give as `webhook`, and a promise per job id.
 *
 * RunPod signs nothing, so the address holds a secret token. A call may come twice, and it repeats the job's
 * input with its presigned URLs: do not log it. Answer 200 at once and ask /status for the truth.
 */
export async function listenForWebhook(port = 0): Promise<{ url: string; called: Promise<JobDocument>; close(): void }> {
  const token = randomBytes(16).toString("hex");
  const path = Buffer.from(`/done?token=${token}`);
  let arrived: (document: JobDocument) => void;
  const called = new Promise<JobDocument>((resolve) => (arrived = resolve));
  const server = createServer(async (request, response) => {
    const sent = Buffer.from(request.url ?? "");
    if (request.method !== "POST" || sent.length !== path.length || !timingSafeEqual(sent, path)) {
      response.writeHead(403).end();
      return;
    }
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    response.writeHead(200).end();
    arrived(JSON.parse(Buffer.concat(parts).toString()) as JobDocument);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  return { url, called, close: () => server.close() };
}
