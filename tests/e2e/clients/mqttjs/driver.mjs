// MQTT.js that does what it is told. Commands come as JSON, one a line, and each is answered by
// one line: what the command gives, or { error: why }. They name the client they mean by a number;
// `open` makes one.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { connect } from "mqtt";

const PATIENCE = 20_000;
const SCHEMES = { tcp: "mqtt", tls: "mqtts", ws: "ws", wss: "wss" };
const VERSIONS = {
  "3.1": { protocolVersion: 3, protocolId: "MQIsdp" },
  "3.1.1": { protocolVersion: 4 },
  "5.0": { protocolVersion: 5 },
};

/** Events that wait until somebody asks for them. */
class Queue {
  #items = [];
  #takers = [];

  put(item) {
    const taker = this.#takers.shift();
    if (taker) taker(item);
    else this.#items.push(item);
  }

  /** The next one, or null if none came in time. */
  take(patience) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((resolve) => {
      const taker = (item) => {
        clearTimeout(timer);
        resolve(item);
      };
      const timer = setTimeout(() => {
        this.#takers.splice(this.#takers.indexOf(taker), 1);
        resolve(null);
      }, patience);
      this.#takers.push(taker);
    });
  }
}

class Client {
  #messages = new Queue();
  #ends = new Queue();
  #mqtt;

  async open(options) {
    const isV5 = options.version === "5.0";
    const will = options.will;
    this.#mqtt = connect(`${SCHEMES[options.carrier]}://${options.host}:${options.port}/mqtt`, {
      ...VERSIONS[options.version],
      clientId: options.id,
      clean: !options.kept,
      reconnectPeriod: 0,
      connectTimeout: PATIENCE,
      username: options.user ?? undefined,
      password: options.password ?? undefined,
      will: will ? { ...will, payload: Buffer.from(will.payload) } : undefined,
      properties: isV5 ? { sessionExpiryInterval: options.kept ? 600 : 0 } : undefined,
      ca: options.ca && readFileSync(options.ca),
      manualConnect: true,
    });
    this.#mqtt.on("message", (topic, payload, packet) => this.#take(topic, payload, packet));
    this.#mqtt.on("close", () => this.#ends.put(true));
    this.#mqtt.on("error", () => {});
    const connack = await new Promise((resolve, reject) => {
      this.#mqtt.once("connect", resolve);
      this.#mqtt.once("error", reject);
      this.#mqtt.connect();
    });
    return connack.sessionPresent;
  }

  #take(topic, payload, { qos, retain, dup, properties }) {
    // Several values of one name come as an array.
    const pairs = Object.entries(properties?.userProperties ?? {}).flatMap(([name, values]) =>
      [values].flat().map((value) => [name, value]),
    );
    this.#messages.put({
      topic,
      payload: payload.toString("hex"),
      qos,
      retain,
      dup,
      properties: pairs,
    });
  }

  async subscribe({ filter, qos }) {
    const [granted] = await this.#mqtt.subscribeAsync(filter, { qos });
    return granted.qos;
  }

  async unsubscribe({ filter }) {
    await this.#mqtt.unsubscribeAsync(filter);
  }

  async publish({ topic, payload, qos, retain, properties }) {
    const userProperties = {};
    for (const [name, value] of properties) (userProperties[name] ??= []).push(value);
    const more = properties.length > 0 ? { properties: { userProperties } } : {};
    await this.#mqtt.publishAsync(topic, Buffer.from(payload, "hex"), { qos, retain, ...more });
  }

  receive({ within }) {
    return this.#messages.take(within * 1000);
  }

  async disconnect() {
    await this.#mqtt.endAsync();
  }

  /** Ends as a failing network would. */
  async cut() {
    this.#mqtt.stream.destroy();
    await this.await_end();
  }

  async await_end() {
    if (!(await this.#ends.take(PATIENCE))) throw new Error("it does not end");
  }
}

const clients = new Map();

async function answer({ do: step, client: number, ...rest }) {
  if (step === "open") {
    const client = new Client();
    try {
      const present = await client.open(rest);
      clients.set(number, client);
      return { present };
    } catch (error) {
      if (typeof error.code !== "number") throw error;
      return { refused: error.code };
    }
  }
  return { result: (await clients.get(number)[step](rest)) ?? null };
}

for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    said = await answer(JSON.parse(line));
  } catch (error) {
    said = { error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
process.exit(0); // other clients' sockets are still open
