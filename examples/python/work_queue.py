"""A work queue: jobs go to whichever worker is free, and a job that fails goes back and is tried again.

    pip install pika
    python work_queue.py [amqp://user:password@host:port/] [queue name]

Without an address it takes AMQP_URI from the environment, then a broker on this machine. It ends by itself when all
jobs are done.
"""

import os
import sys

import pika

JOBS = ["resize cat.jpg", "resize dog.jpg", "resize broken.jpg", "resize hare.jpg", "resize owl.jpg"]


def main():
    uri = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AMQP_URI", "amqp://guest:guest@127.0.0.1:5672/")
    queue = sys.argv[2] if len(sys.argv) > 2 else "examples.work_queue.python"

    connection = pika.BlockingConnection(pika.URLParameters(uri))
    publish_jobs(connection, queue)
    work(connection, queue)
    connection.close()


def publish_jobs(connection, queue):
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()  # from here basic_publish returns when the broker has taken responsibility
    for job in JOBS:
        channel.basic_publish(
            exchange="", routing_key=queue, body=job, mandatory=True,
            properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
        print(f"published  {job}")
    channel.close()


def work(connection, queue):
    done = []

    def worker(name):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)  # one job at a time: the others stay for whoever is free

        def on_job(channel, method, _properties, body):
            job = body.decode()
            if "broken" in job and not method.redelivered:
                print(f"{name}: failed    {job}, requeued")
                channel.basic_nack(method.delivery_tag, requeue=True)
                return
            print(f"{name}: done      {job}{' (second try)' if method.redelivered else ''}")
            channel.basic_ack(method.delivery_tag)
            done.append(job)

        channel.basic_consume(queue, on_job)
        return channel

    workers = [worker("worker 1"), worker("worker 2")]
    while len(done) < len(JOBS):
        connection.process_data_events(time_limit=1)
    for channel in workers:
        channel.close()

    channel = connection.channel()
    channel.queue_delete(queue)
    print(f"all {len(done)} jobs done")


if __name__ == "__main__":
    main()
