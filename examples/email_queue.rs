//! The email queue of every tutorial: send, retry what fails three times, and
//! keep what cannot be sent for a person to look at.
//!
//! The sender fails for one user. A failed email is published again with its
//! count of retries in a header; after the third retry it goes to a dead-letter
//! queue, all by plain client code.
//!
//! ```text
//! shop ──▶ example.emails ──▶ sender ──▶ sent
//!               ▲               │
//!               └─ retry 1 to 3 ┤
//!                               └─ then ──▶ example.emails.dead ──▶ operator
//! ```
//!
//! Run it with `cargo run --example email_queue [amqp://user:password@host:port/vhost]`.

use std::error::Error;

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

const EMAILS: &str = "example.emails";
const DEAD: &str = "example.emails.dead";
/// Header that counts the retries.
const RETRIES: &str = "retries";
const RETRIES_MAX: i32 = 3;
const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = Connection::connect(&uri(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in [EMAILS, DEAD] {
        // Start from nothing, whatever an earlier run has left.
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await?;
        channel
            .queue_declare(
                queue.into(),
                QueueDeclareOptions::durable(),
                FieldTable::default(),
            )
            .await?;
    }
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;

    let users = ["anna", "bertram", "charlotte", "dora"];
    for user in users {
        publish(&channel, EMAILS, user.as_bytes(), 0).await?;
    }
    println!("{} emails queued", users.len());

    // Each email is either sent or dead in the end.
    let mut emails = channel
        .basic_consume(
            EMAILS.into(),
            "sender".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut settled = 0;
    while settled < users.len() {
        let email = emails.next().await.ok_or("the consumer was cancelled")??;
        if handle(&channel, &email).await? {
            settled += 1;
        }
    }

    while let Some(message) = channel
        .basic_get(DEAD.into(), BasicGetOptions::default())
        .await?
    {
        let user = String::from_utf8_lossy(&message.delivery.data);
        println!("operator: email to {user} needs a look");
        message.delivery.ack(BasicAckOptions::default()).await?;
    }
    for queue in [EMAILS, DEAD] {
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Sends one email, or arranges what comes after a failure; whether the email
/// has left the queue for good.
async fn handle(channel: &Channel, email: &Delivery) -> Result<bool, Box<dyn Error>> {
    let user = String::from_utf8_lossy(&email.data);
    let retries = retries_of(email);
    let is_settled = match send(&user) {
        Ok(()) => {
            println!("sent to {user}");
            true
        }
        Err(reason) if retries < RETRIES_MAX => {
            println!("{user}: {reason}, retry {} of {RETRIES_MAX}", retries + 1);
            publish(channel, EMAILS, &email.data, retries + 1).await?;
            false
        }
        Err(reason) => {
            println!("{user}: {reason}, given up");
            publish(channel, DEAD, &email.data, retries).await?;
            true
        }
    };
    // The copy is confirmed before the original is acknowledged. A crash in
    // between means an email twice, never an email lost.
    email.ack(BasicAckOptions::default()).await?;
    Ok(is_settled)
}

/// Stands for a mail server.
fn send(user: &str) -> Result<(), &'static str> {
    if user == "charlotte" {
        Err("mailbox full")
    } else {
        Ok(())
    }
}

fn retries_of(email: &Delivery) -> i32 {
    let headers = email.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(RETRIES)) {
        Some(AMQPValue::LongInt(retries)) => *retries,
        _ => 0,
    }
}

/// Publishes to a queue and waits until the broker has the message.
async fn publish(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    retries: i32,
) -> Result<(), Box<dyn Error>> {
    let mut headers = FieldTable::default();
    headers.insert(RETRIES.into(), AMQPValue::LongInt(retries));
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers);
    let confirmation = channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            body,
            properties,
        )
        .await?
        .await?;
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("the broker did not take the message: {other:?}").into()),
    }
}

/// Where the broker is: the first argument, else `AMQP_URI`, else this machine.
fn uri() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("AMQP_URI").ok())
        .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}
