const assert = require('node:assert/strict');
const { brokerTest, eventually, texts } = require('./support.js');

const arrive = (count, ...inboxes) => eventually(
  () => inboxes.reduce((sum, inbox) => sum + inbox.messages.length, 0) === count, `${count} deliveries`);

brokerTest('messages arrive in order and acknowledged ones are gone', async (b) => {
  const queue = await b.queue();
  const sent = [...Array(50).keys()].map(String);
  await b.fill(queue, ...sent);
  const worker = await b.openChannel();
  const inbox = await b.consume(queue, {}, worker);
  await arrive(50, inbox);
  assert.deepEqual(texts(inbox.messages), sent);
  worker.ack(inbox.messages[20]);
  worker.ack(inbox.messages[40], true);
  worker.ackAll();
  await worker.close();
  assert.deepEqual(await b.takeText(queue), []);
});

brokerTest('acknowledging twice is 406', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1');
  const message = await b.channel.get(queue);
  b.channel.ack(message);
  await b.closesChannel(406, /unknown delivery tag 1/, (channel) => channel.ack(message), b.channel);
});

brokerTest('prefetch bounds what each consumer holds', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1', '2', '3', '4', '5');
  await b.channel.prefetch(2);
  const first = await b.consume(queue);
  await arrive(2, first);
  assert.equal(await b.ready(queue), 3);
  const second = await b.consume(queue);
  await arrive(2, second);
  assert.equal(await b.ready(queue), 1);
  b.channel.ack(first.messages[0]);
  await arrive(3, first);
  assert.equal(await b.ready(queue), 0);
});

brokerTest("global prefetch is shared by the channel's consumers", async (b) => {
  const queues = [await b.queue(), await b.queue()];
  for (const queue of queues) await b.fill(queue, '1', '2', '3');
  const ready = async () => (await b.ready(queues[0])) + (await b.ready(queues[1]));
  await b.channel.prefetch(2, true);
  const inboxes = [await b.consume(queues[0]), await b.consume(queues[1])];
  await arrive(2, ...inboxes);
  assert.equal(await ready(), 4);
  await b.channel.prefetch(5, true);
  await arrive(5, ...inboxes);
  assert.equal(await ready(), 1);
});

brokerTest('a rejected message returns to its place and is flagged', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1', '2', '3', '4');
  const [one, two, three] = [await b.channel.get(queue), await b.channel.get(queue), await b.channel.get(queue)];
  b.channel.nack(two, false, true);
  const again = await b.channel.get(queue);
  assert.deepEqual([again.content.toString(), again.fields.redelivered], ['2', true]);
  b.channel.reject(three, true);
  b.channel.nack(one, false, true);
  b.channel.nackAll(true);
  const left = await b.take(queue);
  assert.deepEqual(texts(left), ['1', '2', '3', '4']);
  assert.deepEqual(left.map((message) => message.fields.redelivered), [true, true, true, false]);
});

brokerTest('a consumer sees its requeued message again', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, 'job');
  const inbox = await b.consume(queue);
  await arrive(1, inbox);
  b.channel.nack(inbox.messages[0]);
  await arrive(2, inbox);
  assert.deepEqual(inbox.messages.map((message) => message.fields.redelivered), [false, true]);
});

brokerTest('rejecting without requeue drops the message', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1', '2', '3');
  const worker = await b.openChannel();
  worker.reject(await worker.get(queue), false);
  await worker.get(queue);
  worker.nack(await worker.get(queue), true, false);
  await worker.close();
  assert.deepEqual(await b.takeText(queue), []);
});

brokerTest('recover requeues what is unacknowledged', async (b) => {
  const queue = await b.queue();
  await b.fill(queue, '1', '2');
  await b.channel.get(queue);
  await b.channel.get(queue);
  await b.channel.recover();
  const left = await b.take(queue);
  assert.deepEqual(left.map((message) => [message.content.toString(), message.fields.redelivered]),
    [['1', true], ['2', true]]);
});

brokerTest('getting tells what is left and when there is nothing', async (b) => {
  const queue = await b.queue();
  assert.equal(await b.channel.get(queue), false);
  await b.fill(queue, '1', '2', '3');
  const { fields } = await b.channel.get(queue);
  assert.deepEqual(fields, { deliveryTag: 1, redelivered: false, exchange: '', routingKey: queue, messageCount: 2 });
});

brokerTest('deleting a queue cancels its consumers', async (b) => {
  const queue = await b.queue();
  const inbox = await b.consume(queue);
  await (await b.openChannel()).deleteQueue(queue);
  await eventually(() => inbox.cancelled, 'the cancel notification');
});

brokerTest('the consumer with the higher priority is served first', async (b) => {
  const queue = await b.queue();
  await b.channel.prefetch(2);
  const low = await b.consume(queue);
  const high = await b.consume(queue, { priority: 10 });
  await b.fill(queue, '1', '2', '3');
  await arrive(3, low, high);
  assert.deepEqual([texts(high.messages), texts(low.messages)], [['1', '2'], ['3']]);
});

brokerTest('an exclusive consumer is alone', async (b) => {
  const queue = await b.queue();
  await b.consume(queue, { exclusive: true });
  await b.closesChannel(403, /exclusive use/, (channel) => channel.consume(queue, () => {}));
});
