// Presigned S3 URLs (Signature Version 4) with Node's own crypto, for AWS, R2, MinIO and `serve`.
// @aws-sdk/s3-request-presigner does the same; use it if your backend has it.

import { createHash, createHmac } from "node:crypto";

export interface Bucket {
  /** Without it, AWS. */
  endpointUrl?: string | undefined;
  accessKeyId: string;
  secretAccessKey: string;
  name: string;
  region: string;
}

/** A URL that reads (GET) or writes (PUT) one object for some time. */
export function presign(bucket: Bucket, method: "GET" | "PUT", key: string, seconds = 3600, now = new Date()): string {
  const endpoint = new URL(bucket.endpointUrl ?? `https://s3.${bucket.region}.amazonaws.com`);
  const path = `/${[bucket.name, ...key.split("/")].map(encode).join("/")}`;
  const time = now.toISOString().replace(/[-:]|\.\d{3}/g, "");
  const scope = `${time.slice(0, 8)}/${bucket.region}/s3/aws4_request`;
  const query = [
    ["X-Amz-Algorithm", "AWS4-HMAC-SHA256"],
    ["X-Amz-Credential", `${bucket.accessKeyId}/${scope}`],
    ["X-Amz-Date", time],
    ["X-Amz-Expires", String(seconds)],
    ["X-Amz-SignedHeaders", "host"],
  ]
    .map(([name, value]) => `${name}=${encode(value ?? "")}`)
    .join("&");
  const request = [method, path, query, `host:${endpoint.host}\n`, "host", "UNSIGNED-PAYLOAD"].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", time, scope, createHash("sha256").update(request).digest("hex")].join("\n");
  const signingKey = scope
    .split("/")
    .reduce<string | Buffer>((secret, part) => hmac(secret, part), `AWS4${bucket.secretAccessKey}`);
  return `${endpoint.origin}${path}?${query}&X-Amz-Signature=${hmac(signingKey, toSign).toString("hex")}`;
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

/** RFC 3986, which S3 signs; encodeURIComponent leaves five characters more. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
