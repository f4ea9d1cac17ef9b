// SPDX-License-Identifier: Apache-2.0
//
// Sends what every client of test_http_source_clients.py sends, by Node's fetch (undici) and, for
// what fetch does not do, by its http module: client.mjs URL TOKEN. An authority comes by
// NODE_EXTRA_CA_CERTS. Prints a JSON object: the statuses by name.
import { request as plain } from "node:http";
import { request as secure } from "node:https";
import { gzipSync } from "node:zlib";

const [url, token] = process.argv.slice(2);

async function send(body, headers = {}, more = {}) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}`, ...headers },
      body,
      ...more,
    });
    await answer.text();
    return answer.status;
  } catch (error) {
    console.error(error, error.cause);
    return 0;
  }
}

function stream() {
  let n = 0;
  return new ReadableStream({
    pull(controller) {
      if (n === 100) return controller.close();
      controller.enqueue(new TextEncoder().encode(`{"from":"stream","n":${n++}}\n`));
    },
  });
}

function expect(body) {
  return new Promise((resolve) => {
    const request = (url.startsWith("https:") ? secure : plain)(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}`, Expect: "100-continue",
        "Content-Length": body.length },
    });
    request.on("continue", () => request.end(body));
    request.on("response", (answer) => answer.resume().on("end", () => resolve(answer.statusCode)));
    request.on("error", (error) => { console.error(error); resolve(0); });
    request.flushHeaders();
  });
}

const found = {
  object: await send('{"from":"object"}'),
  array: await send('[{"from":"array"},{"from":"array"}]'),
  stream: await send(stream(), { "Content-Type": "application/x-ndjson" }, { duplex: "half" }),
  gzip: await send(gzipSync('[{"from":"gzip"}]'), { "Content-Encoding": "gzip" }),
  expect: await expect('{"from":"expect"}'),
  bad: await send('{"from":'),
  token: await send("{}", { Authorization: "Bearer nobody" }),
  large: await send(JSON.stringify("x".repeat(3 << 20))),
};
for (let n = 0; n < 20; n++) {
  const status = await send(JSON.stringify({ from: "row", n }));
  if (status !== 200) found.row = status;
}
for (const status of await Promise.all([...Array(40).keys()].map((n) => send(JSON.stringify({ from: "many", n })))))
  if (status !== 200) found.many = status;
console.log(JSON.stringify(found));
