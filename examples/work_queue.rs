//! A work queue: each job goes to exactly one worker, and none is lost.
//!
//! A producer publishes twelve jobs and waits until the broker has confirmed
//! them. Two workers share the queue. Each takes one job at a time (prefetch 1),
//! so that a slow worker never sits on jobs that the other could do. A job that
//! fails is given back with `nack` and comes again, flagged as redelivered.
//!
//! ```text
//! producer ──▶ example.work_queue ──┬─▶ worker 1
//!                                   └─▶ worker 2
//! ```
//!
//! Run it with `cargo run --example work_queue [amqp://user:password@host:port/vhost]`.

use std::error::Error;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::mpsc;

const QUEUE: &str = "example.work_queue";
const JOBS: u32 = 12;
/// The job that fails when it is tried for the first time.
const DIFFICULT: u32 = 5;
/// Delivery mode 2: the message is to survive a restart of the broker.
const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri = uri();
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // Start from nothing, whatever an earlier run has left.
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    channel
        .queue_declare(
            QUEUE.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;

    let (done, mut finished) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for worker in 1..=2 {
        let (connection, channel, jobs) = hire(worker, &uri).await?;
        let working = tokio::spawn(work(worker, jobs, done.clone()));
        workers.push((connection, channel, working));
    }

    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    for job in 1..=JOBS {
        channel
            .basic_publish(
                "".into(),
                QUEUE.into(),
                BasicPublishOptions::default(),
                job.to_string().as_bytes(),
                BasicProperties::default().with_delivery_mode(PERSISTENT),
            )
            .await?;
    }
    // From here on the jobs are the broker's responsibility.
    channel.wait_for_confirms().await?;
    println!("{JOBS} jobs published and confirmed");

    for _ in 0..JOBS {
        let (worker, job) = finished.recv().await.ok_or("the workers have stopped")?;
        println!("worker {worker}: job {job} done");
    }
    println!("all {JOBS} jobs done");

    // With the queue its consumers end, and so do the workers.
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    for (connection, _channel, working) in workers {
        working.await??;
        connection.close(200, "done".into()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// A worker's connection, its own as if on a machine of its own, and its jobs.
async fn hire(worker: u32, uri: &str) -> Result<(Connection, Channel, Consumer), lapin::Error> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // The next job comes only when this one is settled.
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let jobs = channel
        .basic_consume(
            QUEUE.into(),
            format!("worker-{worker}").into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((connection, channel, jobs))
}

/// Does one job after the other.
async fn work(
    worker: u32,
    mut jobs: Consumer,
    done: mpsc::UnboundedSender<(u32, u32)>,
) -> Result<(), lapin::Error> {
    while let Some(delivery) = jobs.next().await {
        let delivery = delivery?;
        let job: u32 = String::from_utf8_lossy(&delivery.data)
            .parse()
            .unwrap_or_default();
        // This is the work.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if job == DIFFICULT && !delivery.redelivered {
            println!("worker {worker}: job {job} failed, back into the queue");
            let options = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            delivery.nack(options).await?;
            continue;
        }
        // Only now is the job forgotten: a worker that dies before this line
        // leaves it to the other.
        delivery.ack(BasicAckOptions::default()).await?;
        if done.send((worker, job)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Where the broker is: the first argument, else `AMQP_URI`, else this machine.
fn uri() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("AMQP_URI").ok())
        .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}
