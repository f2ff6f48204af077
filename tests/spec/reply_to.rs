//! Direct reply-to: answers without a queue (WIRE.md section 6).

use leveret_protocol::method::*;
use leveret_protocol::{Method, Properties};

use crate::support::client::Client;
use crate::support::{leveret_only, matched};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn reply_to(correlation_id: &str) -> Properties {
    Properties {
        reply_to: Some(REPLY_TO.into()),
        correlation_id: Some(correlation_id.into()),
        ..Properties::default()
    }
}

/// The address that a server sees when this client asks a question on a channel.
fn address_of(client: &mut Client, channel: u16, server: &mut Client) -> String {
    let queue = server.shared_queue(1);
    client.publish_properties(channel, "", queue, &reply_to("id"), "question");
    server.consume(1, queue, true);
    let request = server.delivery(1);
    assert_eq!(request.text(), "question");
    request.content.properties.reply_to.expect("an address")
}

#[test]
fn an_answer_comes_straight_back_to_the_channel_that_asked() {
    let mut client = Client::with_channel();
    let mut server = Client::with_channel();
    let tag = client.consume(1, REPLY_TO, true);
    let address = address_of(&mut client, 1, &mut server);
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    for body in ["one", "two"] {
        server.publish(1, "", &address, body);
        let answer = client.delivery(1);
        assert_eq!(
            (answer.text(), answer.consumer_tag, answer.redelivered),
            (body, tag, false)
        );
        assert_eq!(
            (answer.exchange, answer.routing_key),
            ("", address.as_str())
        );
    }
}

#[test]
fn each_channel_has_its_own_address() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    let mut server = Client::with_channel();
    client.consume(1, REPLY_TO, true);
    client.consume(2, REPLY_TO, true);
    let addresses = [1, 2].map(|channel| address_of(&mut client, channel, &mut server));
    assert_ne!(addresses[0], addresses[1]);
    server.publish(1, "", &addresses[1], "to the second");
    server.publish(1, "", &addresses[0], "to the first");
    assert_eq!(client.delivery(1).text(), "to the first");
    assert_eq!(client.delivery(2).text(), "to the second");
}

#[test]
fn the_consumer_cannot_acknowledge() {
    let mut client = Client::with_channel();
    let consume = BasicConsume {
        queue: REPLY_TO,
        ..BasicConsume::default()
    };
    client.refused(
        1,
        &consume,
        406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    );
}

#[test]
fn a_channel_has_one_reply_consumer() {
    let mut client = Client::with_channel();
    client.consume(1, REPLY_TO, true);
    let again = BasicConsume {
        queue: REPLY_TO,
        no_ack: true,
        ..BasicConsume::default()
    };
    client.refused(
        1,
        &again,
        406,
        "PRECONDITION_FAILED - reply consumer already set",
    );
}

#[test]
fn asking_without_a_reply_consumer_is_406() {
    let mut client = Client::with_channel();
    client.publish_properties(1, "amq.direct", "any", &reply_to("id"), "question");
    let ids = client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - fast reply consumer does not exist",
    );
    assert_eq!(ids, (60, 40));
}

#[test]
fn a_server_can_see_whether_anybody_still_waits() {
    let mut client = Client::with_channel();
    let mut server = Client::with_channel();
    client.consume(1, REPLY_TO, true);
    let address = address_of(&mut client, 1, &mut server);
    let passive = QueueDeclare {
        queue: &address,
        passive: true,
        ..QueueDeclare::default()
    };
    matched!(server.call(1, &passive), Method::QueueDeclareOk(ok) => {
        assert_eq!((ok.queue, ok.message_count, ok.consumer_count), (address.as_str(), 0, 1));
    });
    client.close();
    let text = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
    server.refused(1, &passive, 404, &text);
}

#[test]
fn an_answer_that_nobody_waits_for_comes_back_if_it_is_mandatory() {
    let mut client = Client::with_channel();
    let mut server = Client::with_channel();
    let tag = client.consume(1, REPLY_TO, true);
    let address = address_of(&mut client, 1, &mut server);
    client.cancel(1, tag);
    let publish = BasicPublish {
        routing_key: &address,
        mandatory: true,
        ..BasicPublish::default()
    };
    server.publish_with(1, &publish, &Properties::default(), b"too late");
    matched!(server.next_method(1), Method::BasicReturn(back) => {
        assert_eq!((back.reply_code, back.routing_key), (312, address.as_str()));
    });
    server.publish(1, "", &address, "too late as well");
    server.sync(1);
    server.expect_nothing(1);
}

#[test]
fn a_reply_consumer_can_be_started_again_after_cancel() {
    let mut client = Client::with_channel();
    let mut server = Client::with_channel();
    let tag = client.consume(1, REPLY_TO, true);
    client.cancel(1, tag);
    client.consume(1, REPLY_TO, true);
    let address = address_of(&mut client, 1, &mut server);
    server.publish(1, "", &address, "answer");
    assert_eq!(client.delivery(1).text(), "answer");
}

#[test]
fn an_answer_is_confirmed_like_any_message() {
    let mut client = Client::with_channel();
    let mut server = Client::with_channel();
    client.consume(1, REPLY_TO, true);
    let address = address_of(&mut client, 1, &mut server);
    server.publish_confirmed(&[("", &address, "answer")]);
    assert_eq!(client.delivery(1).text(), "answer");
}

#[test]
fn a_forged_address_leads_nowhere() {
    leveret_only!("RabbitMQ closes the connection with 541");
    let mut client = Client::with_channel();
    for address in [
        "amq.rabbitmq.reply-to.",
        "amq.rabbitmq.reply-to.forged",
        "amq.rabbitmq.reply-to.g2dk.AAAA==",
    ] {
        client.publish(1, "", address, "to nobody");
        client.sync(1);
        client.expect_nothing(1);
    }
}
