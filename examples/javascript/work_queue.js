// A work queue: jobs go to whichever worker is free, and a job that fails goes back and is tried again.
//
//     npm install
//     node work_queue.js [amqp://user:password@host:port/] [queue name]
//
// Without an address it takes AMQP_URI from the environment, then a broker on this machine. It ends by itself when all
// jobs are done.

const amqp = require('amqplib');

const JOBS = ['resize cat.jpg', 'resize dog.jpg', 'resize broken.jpg', 'resize hare.jpg', 'resize owl.jpg'];

async function main() {
  const uri = process.argv[2] ?? process.env.AMQP_URI ?? 'amqp://guest:guest@127.0.0.1:5672/';
  const queue = process.argv[3] ?? 'examples.work_queue.javascript';

  const connection = await amqp.connect(uri);
  await publishJobs(connection, queue);
  await work(connection, queue);
  await connection.close();
}

async function publishJobs(connection, queue) {
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(queue, { durable: true });
  for (const job of JOBS) {
    channel.sendToQueue(queue, Buffer.from(job), { persistent: true, mandatory: true });
    console.log(`published  ${job}`);
  }
  await channel.waitForConfirms(); // the broker has taken responsibility for all of them
  await channel.close();
}

async function work(connection, queue) {
  let done = 0;
  let allDone;
  const finished = new Promise((resolve) => { allDone = resolve; });

  async function worker(name) {
    const channel = await connection.createChannel();
    await channel.prefetch(1); // one job at a time: the others stay for whoever is free
    await channel.consume(queue, (message) => {
      const job = message.content.toString();
      const again = message.fields.redelivered;
      if (job.includes('broken') && !again) {
        console.log(`${name}: failed    ${job}, requeued`);
        channel.nack(message, false, true);
        return;
      }
      console.log(`${name}: done      ${job}${again ? ' (second try)' : ''}`);
      channel.ack(message);
      done += 1;
      if (done === JOBS.length) allDone();
    });
    return channel;
  }

  const workers = [await worker('worker 1'), await worker('worker 2')];
  await finished;
  for (const channel of workers) await channel.close();

  const channel = await connection.createChannel();
  await channel.deleteQueue(queue);
  console.log(`all ${done} jobs done`);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
