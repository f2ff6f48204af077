const assert = require('node:assert/strict');
const { brokerTest, eventually, texts, unique } = require('./support.js');

/** Bytes whose period is no divisor of a frame, so that a misplaced frame shows. */
const bodyOf = (size) => Buffer.alloc(size, Buffer.from([...Array(251).keys()]));

brokerTest('a confirmed message is in the queue', async (b) => {
  const queue = await b.queue();
  const channel = await b.confirmChannel();
  for (let n = 0; n < 500; n += 1) channel.sendToQueue(queue, Buffer.from(`${n}`), { persistent: true });
  await channel.waitForConfirms();
  assert.equal(await b.ready(queue), 500);
});

brokerTest('a mandatory unroutable message is returned before its confirm', async (b) => {
  const channel = await b.confirmChannel();
  const name = unique('missing');
  const events = [];
  channel.on('return', (message) => events.push(message));
  channel.publish('', name, Buffer.from('back'), { mandatory: true, messageId: '7' },
    (error) => events.push(error ?? 'confirmed'));
  await channel.waitForConfirms();
  const [returned, confirmed] = events;
  assert.deepEqual(returned.fields, { replyCode: 312, replyText: 'NO_ROUTE', exchange: '', routingKey: name });
  assert.deepEqual([returned.content.toString(), returned.properties.messageId], ['back', '7']);
  assert.equal(confirmed, 'confirmed');
});

brokerTest('a message that is not mandatory and finds no queue is confirmed', async (b) => {
  await b.publish('', unique('missing'), 'dropped');
});

brokerTest('a megabyte arrives unchanged', async (b) => {
  const queue = await b.queue();
  const body = bodyOf(1024 * 1024);
  await b.publish('', queue, body);
  const inbox = await b.consume(queue, { noAck: true });
  await eventually(() => inbox.messages.length === 1, 'the delivery');
  assert.ok(inbox.messages[0].content.equals(body));
});

brokerTest('a large body through a fanout reaches three queues unchanged', async (b) => {
  const exchange = await b.exchange('fanout');
  const queues = [await b.queue(), await b.queue(), await b.queue()];
  for (const queue of queues) await b.channel.bindQueue(queue, exchange, '');
  const body = bodyOf(140_000);
  await b.publish(exchange, '', body);
  for (const queue of queues) {
    const messages = await b.take(queue);
    assert.deepEqual(messages.map((message) => message.content.equals(body)), [true]);
  }
});

brokerTest('an empty body arrives empty', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '', 'next');
  assert.deepEqual(await b.takeText(queue), ['', 'next']);
});

brokerTest('all properties and header types arrive unchanged', async (b) => {
  const queue = await b.queue();
  const typed = (type, value) => ({ '!': type, value });
  const sent = {
    int8: typed('int8', -128), uint8: typed('uint8', 255), int16: typed('int16', -32768),
    uint16: typed('uint16', 65535), int32: typed('int32', -(2 ** 31)), uint32: typed('uint32', 2 ** 32 - 1),
    int64: typed('int64', 2 ** 40), float: typed('float', 1.5), double: typed('double', Math.PI),
  };
  const plain = {
    text: 'grüße', empty: '', bytes: Buffer.from([0, 255]), yes: true, no: false, nothing: null,
    time: typed('timestamp', 1_700_000_000), decimal: typed('decimal', { places: 2, digits: 314 }),
    list: [1, 'two', null, [true, { deep: 'yes' }]], table: { a: 1, b: { c: 'd' } }, emptyTable: {},
  };
  const properties = {
    contentType: 'application/json', contentEncoding: 'gzip', priority: 5, correlationId: 'correlation',
    replyTo: 'somewhere', messageId: 'id', timestamp: 1_700_000_000, type: 'kind', appId: 'application',
  };
  await b.publish('', queue, '{}', { ...properties, persistent: true, headers: { ...plain, ...sent } });
  const [message] = await b.take(queue);
  const values = Object.fromEntries(Object.entries(sent).map(([name, { value }]) => [name, value]));
  assert.deepEqual(message.properties.headers, { ...plain, ...values });
  for (const [name, value] of Object.entries(properties)) assert.equal(message.properties[name], value, name);
  assert.equal(message.properties.deliveryMode, 2);
});

brokerTest('CC and BCC add routing keys and BCC is not shown', async (b) => {
  const [to, cc, bcc] = [await b.queue(), await b.queue(), await b.queue()];
  await b.publish('', to, 'copied', { CC: cc, BCC: [bcc] });
  for (const queue of [to, cc, bcc]) {
    const [message] = await b.take(queue);
    assert.deepEqual([message.content.toString(), message.fields.routingKey], ['copied', to]);
    assert.deepEqual(message.properties.headers, { CC: [cc] });
  }
});

brokerTest('one RPC through direct reply-to', async (b) => {
  const requests = await b.queue();
  const server = await b.openChannel(await b.connect());
  await server.consume(requests, (message) => {
    const { replyTo, correlationId } = message.properties;
    server.sendToQueue(replyTo, Buffer.from(message.content.toString().toUpperCase()), { correlationId });
    server.ack(message);
  });
  const answers = await b.consume('amq.rabbitmq.reply-to', { noAck: true });
  for (const correlationId of ['1', '2', '3']) {
    b.channel.sendToQueue(requests, Buffer.from('hello'), { correlationId, replyTo: 'amq.rabbitmq.reply-to' });
  }
  await eventually(() => answers.messages.length === 3, 'the answers');
  assert.deepEqual(texts(answers.messages), ['HELLO', 'HELLO', 'HELLO']);
  assert.deepEqual(answers.messages.map((message) => message.properties.correlationId), ['1', '2', '3']);
});

brokerTest('a transaction shows its messages on commit and forgets them on rollback', async (b) => {
  // amqplib has no method for transactions, but its rpc() sends any method by its id: class 90, methods 10 to 31.
  const call = (channel, method) => channel.rpc((90 << 16) | method, {}, (90 << 16) | (method + 1));
  const [select, commit, rollback] = [10, 20, 30];
  const queue = await b.queue();
  const writer = await b.openChannel();
  await call(writer, select);
  writer.sendToQueue(queue, Buffer.from('1'));
  assert.equal(await b.ready(queue), 0);
  await call(writer, commit);
  assert.equal(await b.ready(queue), 1);
  writer.sendToQueue(queue, Buffer.from('2'));
  await call(writer, rollback);
  await call(writer, commit);
  assert.deepEqual(await b.takeText(queue), ['1']);
});
