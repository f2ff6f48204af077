const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { AMQP_URI, brokerTest, unique } = require('./support.js');

const examples = path.resolve(__dirname, '../../../examples/javascript');

brokerTest('the work queue finishes every job and retries the failed one', async (b) => {
  const queue = unique('work_queue');
  b.queues.push(queue);
  const output = execFileSync(process.execPath, [path.join(examples, 'work_queue.js'), AMQP_URI, queue],
    { encoding: 'utf8', timeout: 30_000 });
  const count = (text) => output.split(text).length - 1;
  assert.equal(count('failed    resize broken.jpg, requeued'), 1, output);
  assert.equal(count('done      resize broken.jpg (second try)'), 1, output);
  assert.equal(count(': done '), 5, output);
  assert.ok(output.endsWith('all 5 jobs done\n'), output);
});
