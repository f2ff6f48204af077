const assert = require('node:assert/strict');
const { brokerTest, unique } = require('./support.js');

/** Binds a queue per [key, arguments], publishes [key, headers, body] and gives each queue's bodies. */
async function routed(b, exchange, bindings, published) {
  const queues = [];
  for (const [key, args] of bindings) {
    const queue = await b.queue();
    await b.channel.bindQueue(queue, exchange, key, args);
    queues.push(queue);
  }
  for (const [key, headers, body] of published) await b.publish(exchange, key, body, { headers });
  const got = [];
  for (const queue of queues) got.push(await b.takeText(queue));
  return got;
}

brokerTest('the default exchange reaches a queue by its name', async (b) => {
  const queue = await b.queue();
  await b.publish('', queue, 'straight');
  assert.deepEqual(await b.takeText(queue), ['straight']);
});

brokerTest('direct routes by the whole key', async (b) => {
  const got = await routed(b, await b.exchange('direct'), [['red'], ['green']],
    [['red', {}, '1'], ['green', {}, '2'], ['blue', {}, '3'], ['red', {}, '4']]);
  assert.deepEqual(got, [['1', '4'], ['2']]);
});

brokerTest('fanout reaches every queue whatever the key', async (b) => {
  const got = await routed(b, await b.exchange('fanout'), [[''], ['ignored']], [['a', {}, '1'], ['', {}, '2']]);
  assert.deepEqual(got, [['1', '2'], ['1', '2']]);
});

brokerTest('topic wildcards stand for words', async (b) => {
  const keys = ['stock', 'stock.nyse', 'stock.nyse.ibm', 'bond.nyse'];
  const got = await routed(b, await b.exchange('topic'), [['stock.*'], ['stock.#'], ['#.nyse']],
    keys.map((key) => [key, {}, key]));
  assert.deepEqual(got, [['stock.nyse'], ['stock', 'stock.nyse', 'stock.nyse.ibm'], ['stock.nyse', 'bond.nyse']]);
});

brokerTest('headers match all or any', async (b) => {
  const both = { format: 'pdf', pages: 3 };
  const got = await routed(b, await b.exchange('headers'),
    [['', { ...both, 'x-match': 'all' }], ['', { ...both, 'x-match': 'any' }]],
    [['', both, 'both'], ['', { format: 'pdf' }, 'one'], ['', { format: 'txt' }, 'none']]);
  assert.deepEqual(got, [['both'], ['both', 'one']]);
});

brokerTest('unbinding stops the flow and unbinding again is no error', async (b) => {
  const exchange = await b.exchange('direct');
  const queue = await b.queue();
  await b.channel.bindQueue(queue, exchange, 'key');
  await b.channel.unbindQueue(queue, exchange, 'key');
  await b.channel.unbindQueue(queue, exchange, 'key');
  await b.publish(exchange, 'key', 'nobody');
  assert.deepEqual(await b.takeText(queue), []);
});

brokerTest('exchanges bound to exchanges pass messages on', async (b) => {
  const source = await b.exchange('topic');
  const target = await b.exchange('fanout');
  const queue = await b.queue();
  await b.channel.bindExchange(target, source, 'news.#');
  await b.channel.bindQueue(queue, target, '');
  await b.publish(source, 'news.today', 'through');
  await b.publish(source, 'weather', 'not through');
  await b.channel.unbindExchange(target, source, 'news.#');
  await b.publish(source, 'news.today', 'no longer');
  assert.deepEqual(await b.takeText(queue), ['through']);
});

brokerTest('an alternate exchange takes what nobody is bound for', async (b) => {
  const alternateExchange = await b.exchange('fanout');
  const exchange = await b.exchange('direct', { alternateExchange });
  const queue = await b.queue();
  await b.channel.bindQueue(queue, alternateExchange, '');
  await b.publish(exchange, 'unknown', 'caught');
  assert.deepEqual(await b.takeText(queue), ['caught']);
});

brokerTest('a missing exchange is 404', async (b) => {
  await b.closesChannel(404, /no exchange '.*' in vhost/, (channel) => channel.checkExchange(unique('missing')));
  await b.closesChannel(404, /no exchange '.*' in vhost/,
    (channel) => channel.publish(unique('missing'), '', Buffer.from('lost')));
});

brokerTest('redeclaring an exchange otherwise is 406', async (b) => {
  const exchange = await b.exchange('direct');
  await b.channel.assertExchange(exchange, 'direct');
  await b.closesChannel(406, /inequivalent arg 'type'/, (channel) => channel.assertExchange(exchange, 'fanout'));
});

brokerTest('an exchange in use is not deleted if-unused', async (b) => {
  const exchange = await b.exchange('fanout');
  const queue = await b.queue();
  await b.channel.bindQueue(queue, exchange, '');
  await b.closesChannel(406, /in use/, (channel) => channel.deleteExchange(exchange, { ifUnused: true }));
  await b.channel.deleteQueue(queue);
  await b.channel.deleteExchange(exchange, { ifUnused: true });
});
