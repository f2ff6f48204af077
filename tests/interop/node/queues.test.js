const assert = require('node:assert/strict');
const { brokerTest, texts, unique } = require('./support.js');

brokerTest('a durable queue outlives its connection', async (b) => {
  const connection = await b.connect();
  const queue = await b.queue({ durable: true }, await b.openChannel(connection));
  await connection.close();
  assert.equal(await b.ready(queue), 0);
});

brokerTest('declaring reports messages and consumers', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1', '2');
  assert.deepEqual(await b.channel.assertQueue(queue), { queue, messageCount: 2, consumerCount: 0 });
  await b.consume(queue);
  assert.equal((await b.channel.checkQueue(queue)).consumerCount, 1);
});

brokerTest('an exclusive queue is locked for others and goes with its connection', async (b) => {
  const owner = await b.connect();
  const queue = await b.queue({ exclusive: true }, await b.openChannel(owner));
  await b.closesChannel(405, /RESOURCE_LOCKED - cannot obtain exclusive access to locked queue/,
    (channel) => channel.checkQueue(queue));
  await owner.close();
  await b.closesChannel(404, /no queue/, (channel) => channel.checkQueue(queue));
});

brokerTest('an auto-delete queue goes with its last consumer', async (b) => {
  const queue = await b.queue({ durable: false, autoDelete: true });
  assert.equal(await b.ready(queue), 0);
  const { tag } = await b.consume(queue);
  await b.channel.cancel(tag);
  await b.closesChannel(404, /no queue/, (channel) => channel.checkQueue(queue));
});

brokerTest('the broker names a queue without a name', async (b) => {
  const { queue } = await b.channel.assertQueue('', { exclusive: true });
  assert.match(queue, /^amq\.gen-[\w-]{22}$/);
});

brokerTest('a passive declare of a missing queue is 404 and the connection survives', async (b) => {
  const name = unique('missing');
  await b.closesChannel(404, new RegExp(`NOT_FOUND - no queue '${name}' in vhost`),
    (channel) => channel.checkQueue(name));
});

brokerTest('an inequivalent redeclare is 406 and names the difference', async (b) => {
  const queue = await b.queue();
  await b.closesChannel(406, /inequivalent arg 'durable' for queue '.*' in vhost '.*': received 'false' but current is 'true'/,
    (channel) => channel.assertQueue(queue, { durable: false }));
});

brokerTest('purging empties the queue and says how many', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1', '2', '3');
  assert.deepEqual(await b.channel.purgeQueue(queue), { messageCount: 3 });
  assert.equal(await b.ready(queue), 0);
});

brokerTest('delete if-unused spares a queue with consumers', async (b) => {
  const queue = await b.queue();
  const { tag } = await b.consume(queue);
  await b.closesChannel(406, /in use/, (channel) => channel.deleteQueue(queue, { ifUnused: true }));
  await b.channel.cancel(tag);
  await b.channel.deleteQueue(queue, { ifUnused: true });
});

brokerTest('delete if-empty spares a queue with messages', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, 'keep me');
  await b.closesChannel(406, /not empty/, (channel) => channel.deleteQueue(queue, { ifEmpty: true }));
  assert.deepEqual(texts(await b.take(queue)), ['keep me']);
  assert.deepEqual(await b.channel.deleteQueue(queue, { ifEmpty: true }), { messageCount: 0 });
});
