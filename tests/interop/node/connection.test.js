const assert = require('node:assert/strict');
const { once } = require('node:events');
const { brokerTest, eventually, texts, unique } = require('./support.js');

brokerTest('PLAIN login opens a connection that closes cleanly', async (b) => {
  const connection = await b.connect();
  const closed = once(connection, 'close');
  await connection.close();
  await closed;
});

brokerTest('the broker names itself and its capabilities', async (b) => {
  const { product, version, capabilities } = b.connection.connection.serverProperties;
  assert.equal(typeof product, 'string');
  assert.match(version, /^\d+\.\d+/);
  for (const capability of ['publisher_confirms', 'exchange_exchange_bindings', 'basic.nack', 'consumer_cancel_notify',
    'connection.blocked', 'consumer_priorities', 'authentication_failure_close', 'per_consumer_qos', 'direct_reply_to',
  ]) assert.equal(capabilities[capability], true, capability);
});

brokerTest('a wrong password is refused with 403', async (b) => {
  await assert.rejects(b.connect({ password: 'not the password' }), /403 \(ACCESS.REFUSED\).*PLAIN/);
});

brokerTest('a vhost that does not exist is refused', async (b) => {
  // amqplib does not pass on the code, which is 530, but tells that the broker answered by closing.
  await assert.rejects(b.connect({ vhost: 'interop-no-such-vhost' }), /Expected ConnectionOpenOk; got <ConnectionClose/);
});

brokerTest('a client that asks for a heartbeat gets it', async (b) => {
  assert.equal((await b.connect({ heartbeat: 17 })).connection.heartbeat, 17);
  assert.equal((await b.connect({ heartbeat: 0 })).connection.heartbeat, 0);
  assert.ok((await b.connect()).connection.heartbeat > 0);
});

brokerTest('an idle connection receives heartbeats and stays open', async (b) => {
  const connection = await b.connect({ heartbeat: 1 });
  let received = 0;
  connection.connection.stream.on('data', () => { received += 1; });
  connection.on('close', () => { received = -Infinity; });
  await eventually(() => received >= 5, 'five heartbeats');
});

brokerTest('a smaller frame size is accepted and large bodies still fit', async (b) => {
  const connection = await b.connect({ frameMax: 4096 });
  const channel = await b.confirmChannel(connection);
  const queue = await b.queue({ exclusive: true }, channel);
  const body = Buffer.alloc(25_000, 'leveret');
  channel.sendToQueue(queue, body);
  await channel.waitForConfirms();
  assert.deepEqual((await channel.get(queue, { noAck: true })).content, body);
});

brokerTest('many channels work side by side', async (b) => {
  const queue = await b.queue();
  const numbers = [...Array(200).keys()];
  const channels = await Promise.all(numbers.map(() => b.openChannel()));
  channels.forEach((channel, number) => channel.sendToQueue(queue, Buffer.from(`${number}`)));
  await Promise.all(channels.map((channel) => channel.close()));
  await eventually(async () => (await b.ready(queue)) === 200, 'one message from each channel');
  assert.deepEqual((await b.takeText(queue)).map(Number).sort((x, y) => x - y), numbers);
});

brokerTest('a channel can be opened again after a channel error, and others go on', async (b) => {
  for (let round = 0; round < 3; round += 1) {
    await b.closesChannel(404, /NOT_FOUND - no queue/, (channel) => channel.checkQueue(unique('missing')));
  }
  await b.channel.assertQueue('', { exclusive: true });
});

brokerTest('a closed channel gives its unacknowledged messages back', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, 'job');
  const worker = await b.openChannel();
  await worker.get(queue);
  await worker.close();
  await eventually(async () => (await b.ready(queue)) === 1, 'the message back in its queue');
  const [message] = await b.take(queue);
  assert.equal(message.fields.redelivered, true);
});

brokerTest('a lost connection gives its unacknowledged messages back', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, 'job');
  const connection = await b.connect();
  const inbox = await b.consume(queue, {}, await b.openChannel(connection));
  await eventually(() => inbox.messages.length === 1, 'the delivery');
  connection.connection.stream.end(); // goes without a goodbye
  await eventually(async () => (await b.ready(queue)) === 1, 'the message back in its queue');
  const [message] = await b.take(queue);
  assert.deepEqual([message.fields.redelivered, ...texts([message])], [true, 'job']);
});
