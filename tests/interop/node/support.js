// What every test here stands on: a connection of its own, names of its own, waits with a deadline.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { once } = require('node:events');
const { test } = require('node:test');
const amqp = require('amqplib');

const AMQP_URI = process.env.AMQP_URI ?? 'amqp://guest:guest@127.0.0.1:5672/';
const DEADLINE_MS = 15_000;

/** A name no other test, run or suite uses. */
const unique = (name) => `interop.node.${name}.${randomUUID().slice(-12)}`;

async function eventually(condition, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within ${DEADLINE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A test with a connection and a channel; durable things declared through it are deleted afterwards. */
function brokerTest(name, body) {
  test(name, { timeout: 2 * DEADLINE_MS }, async () => {
    const broker = new Broker();
    try {
      broker.connection = await broker.connect();
      broker.channel = await broker.openChannel();
      await body(broker);
    } finally {
      await broker.cleanUp();
    }
  });
}

class Broker {
  constructor() {
    this.connections = [];
    this.queues = [];
    this.exchanges = [];
  }

  async cleanUp() {
    for (const open of this.connections) await open.close().catch(() => {}); // it may be closed already
    const connection = await this.connect();
    const channel = await connection.createChannel();
    for (const queue of this.queues) await channel.deleteQueue(queue);
    for (const exchange of this.exchanges) await channel.deleteExchange(exchange);
    await connection.close();
  }

  /** Connects; `overrides` are fields of amqplib's connection options. */
  async connect(overrides = {}) {
    const uri = new URL(AMQP_URI);
    const connection = await amqp.connect({
      protocol: 'amqp',
      hostname: uri.hostname,
      port: Number(uri.port || 5672),
      username: decodeURIComponent(uri.username),
      password: decodeURIComponent(uri.password),
      vhost: decodeURIComponent(uri.pathname.slice(1)) || '/',
      ...overrides,
    });
    connection.on('error', () => {});
    this.connections.push(connection);
    return connection;
  }

  async openChannel(connection = this.connection) {
    return quiet(await connection.createChannel());
  }

  async confirmChannel(connection = this.connection) {
    return quiet(await connection.createConfirmChannel());
  }

  async queue(options = { durable: true }, channel = this.channel) {
    const name = unique('queue');
    this.queues.push(name);
    await channel.assertQueue(name, options);
    return name;
  }

  async exchange(type, options = {}) {
    const name = unique(type);
    this.exchanges.push(name);
    await this.channel.assertExchange(name, type, options);
    return name;
  }

  /** Publishes and waits for the confirm. */
  async publish(exchange, key, body, options = {}) {
    const channel = await this.confirmChannel();
    channel.publish(exchange, key, Buffer.from(body), options);
    await channel.waitForConfirms();
    await channel.close();
  }

  async fill(queue, ...bodies) {
    const channel = await this.confirmChannel();
    for (const body of bodies) channel.sendToQueue(queue, Buffer.from(body));
    await channel.waitForConfirms();
    await channel.close();
  }

  async ready(queue) {
    return (await this.channel.checkQueue(queue)).messageCount;
  }

  /** The messages ready in the queue, which is left empty. */
  async take(queue, channel = this.channel) {
    const messages = [];
    for (;;) {
      const message = await channel.get(queue, { noAck: true });
      if (!message) return messages;
      messages.push(message);
    }
  }

  async takeText(queue) {
    return texts(await this.take(queue));
  }

  /** Consumes into `messages`; `cancelled` tells that the broker ended it. */
  async consume(queue, options = {}, channel = this.channel) {
    const inbox = { messages: [], cancelled: false };
    const take = (message) => (message ? inbox.messages.push(message) : (inbox.cancelled = true));
    inbox.tag = (await channel.consume(queue, take, options)).consumerTag;
    return inbox;
  }

  /** `action` on a channel makes the broker close that channel, and only that. */
  async closesChannel(code, text, action, channel) {
    channel ??= await this.openChannel();
    const signal = AbortSignal.timeout(DEADLINE_MS);
    const closed = once(channel, 'error', { signal });
    Promise.resolve(action(channel)).catch(() => {}); // the error event tells the same, for every method
    const [error] = await closed;
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    await this.openChannel(); // the connection survives
  }
}

const quiet = (channel) => channel.on('error', () => {});
const texts = (messages) => messages.map((message) => message.content.toString());

module.exports = { AMQP_URI, brokerTest, eventually, texts, unique };
