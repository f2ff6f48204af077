//! Exchanges declared, redeclared, deleted and chained (WIRE.md sections 3 and 4).

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method};

use crate::support::broker::{leak, unique};
use crate::support::client::Client;
use crate::support::{leveret_only, matched};

const DEFAULT_REFUSED: &str = "ACCESS_REFUSED - operation not permitted on the default exchange";

fn declare<'a>(exchange: &'a str, kind: &'a str) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        exchange,
        kind,
        ..ExchangeDeclare::default()
    }
}

fn passive(exchange: &str) -> ExchangeDeclare<'_> {
    ExchangeDeclare {
        exchange,
        kind: "direct",
        passive: true,
        ..ExchangeDeclare::default()
    }
}

fn missing(exchange: &str) -> &'static str {
    leak(format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'"))
}

#[test]
fn the_predeclared_exchanges_are_there_and_may_be_declared_again() {
    let mut client = Client::with_channel();
    for (exchange, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        client.ok(1, &passive(exchange));
        client.ok(
            1,
            &ExchangeDeclare {
                durable: true,
                ..declare(exchange, kind)
            },
        );
    }
}

#[test]
fn a_passive_declare_finds_the_exchange_whatever_else_it_says() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    client.ok(
        1,
        &ExchangeDeclare {
            durable: true,
            internal: true,
            ..passive(exchange)
        },
    );
    client.delete_exchange(1, exchange);
    client.refused(1, &passive(exchange), 404, missing(exchange));
}

#[test]
fn an_exchange_may_be_declared_again_alike() {
    let mut client = Client::with_channel();
    let exchange = unique("again");
    for _ in 0..2 {
        client.ok(
            1,
            &ExchangeDeclare {
                durable: true,
                ..declare(exchange, "topic")
            },
        );
    }
    client.delete_exchange(1, exchange);
}

#[test]
fn an_exchange_declared_again_differently_is_406() {
    let mut client = Client::with_channel();
    let exchange = unique("other");
    client.ok(1, &declare(exchange, "direct"));
    let differs = |argument: &str, received: &str, current: &str| {
        leak(format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{exchange}' in \
             vhost '/': received {received} but current is {current}"
        ))
    };
    for (again, text) in [
        (
            declare(exchange, "fanout"),
            differs("type", "'fanout'", "'direct'"),
        ),
        (
            ExchangeDeclare {
                durable: true,
                ..declare(exchange, "direct")
            },
            differs("durable", "'true'", "'false'"),
        ),
        (
            ExchangeDeclare {
                auto_delete: true,
                ..declare(exchange, "direct")
            },
            differs("auto_delete", "'true'", "'false'"),
        ),
        (
            ExchangeDeclare {
                internal: true,
                ..declare(exchange, "direct")
            },
            differs("internal", "'true'", "'false'"),
        ),
        (
            ExchangeDeclare {
                arguments: [("alternate-exchange", "amq.fanout")].into_iter().collect(),
                ..declare(exchange, "direct")
            },
            differs(
                "alternate-exchange",
                "the value 'amq.fanout' of type 'longstr'",
                "none",
            ),
        ),
    ] {
        client.refused(1, &again, 406, text);
    }
    client.delete_exchange(1, exchange);
}

#[test]
fn arguments_that_no_exchange_knows_are_not_compared() {
    let mut client = Client::with_channel();
    let exchange = unique("free");
    client.ok(1, &declare(exchange, "direct"));
    let arguments: FieldTable = [("colour", "blue")].into_iter().collect();
    client.ok(
        1,
        &ExchangeDeclare {
            arguments,
            ..declare(exchange, "direct")
        },
    );
    client.delete_exchange(1, exchange);
}

#[test]
fn an_unknown_type_is_406() {
    leveret_only!("RabbitMQ 3.10 closes the connection with 503, later ones the channel with 406");
    let mut client = Client::with_channel();
    client.refused(
        1,
        &declare(unique("odd"), "x-unheard-of"),
        406,
        "PRECONDITION_FAILED - unknown exchange type 'x-unheard-of'",
    );
}

#[test]
fn names_that_begin_with_amq_are_the_servers() {
    let mut client = Client::with_channel();
    client.refused(
        1,
        &declare("amq.mine", "direct"),
        403,
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    let delete = ExchangeDelete {
        exchange: "amq.direct",
        ..ExchangeDelete::default()
    };
    client.refused(
        1,
        &delete,
        403,
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
    );
}

#[test]
fn the_default_exchange_takes_publishes_and_nothing_else() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.refused(1, &declare("", "direct"), 403, DEFAULT_REFUSED);
    client.refused(1, &passive(""), 403, DEFAULT_REFUSED);
    client.refused(1, &ExchangeDelete::default(), 403, DEFAULT_REFUSED);
    client.refused(
        1,
        &QueueBind {
            queue,
            ..QueueBind::default()
        },
        403,
        DEFAULT_REFUSED,
    );
    client.refused(
        1,
        &QueueUnbind {
            queue,
            ..QueueUnbind::default()
        },
        403,
        DEFAULT_REFUSED,
    );
    let bind = ExchangeBind {
        source: "amq.direct",
        ..ExchangeBind::default()
    };
    client.refused(1, &bind, 403, DEFAULT_REFUSED);
    let bind = ExchangeBind {
        destination: "amq.direct",
        ..ExchangeBind::default()
    };
    client.refused(1, &bind, 403, DEFAULT_REFUSED);
    client.publish(1, "", queue, "fine");
    client.consume(1, queue, true);
    assert_eq!(client.delivery(1).text(), "fine");
}

#[test]
fn line_breaks_are_stripped_from_a_declared_name() {
    let mut client = Client::with_channel();
    let exchange = unique("line");
    let broken = leak(format!("\r\n{exchange}\r\n"));
    client.ok(1, &declare(broken, "direct"));
    client.ok(1, &passive(exchange));
    client.delete_exchange(1, exchange);
}

#[test]
fn deleting_an_exchange_that_is_not_there_is_fine() {
    let mut client = Client::with_channel();
    client.delete_exchange(1, "nowhere");
}

#[test]
fn a_used_exchange_survives_delete_if_unused() {
    let mut client = Client::with_channel();
    let exchange = unique("used");
    client.ok(1, &declare(exchange, "direct"));
    let queue = client.bound_queue(1, exchange, "k");
    let delete = ExchangeDelete {
        exchange,
        if_unused: true,
        ..ExchangeDelete::default()
    };
    let text = leak(format!(
        "PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"
    ));
    client.refused(1, &delete, 406, text);
    client.delete_queue(1, queue);
    matched!(client.call(1, &delete), Method::ExchangeDeleteOk(_) => ());
    client.refused(1, &passive(exchange), 404, missing(exchange));
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_and_not_before_one() {
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "direct");
    client.ok(1, &passive(exchange));
    let first = client.bound_queue(1, exchange, "k");
    let second = client.bound_queue(1, exchange, "k");
    client.delete_queue(1, first);
    client.ok(1, &passive(exchange));
    client.ok(
        1,
        &QueueUnbind {
            queue: second,
            exchange,
            routing_key: "k",
            ..QueueUnbind::default()
        },
    );
    client.refused(1, &passive(exchange), 404, missing(exchange));
}

#[test]
fn an_auto_delete_exchange_goes_when_the_exchange_it_leads_to_is_deleted() {
    let mut client = Client::with_channel();
    let source = client.temp_exchange(1, "fanout");
    let destination = client.temp_exchange(1, "fanout");
    client.bind_exchange(1, destination, source, "");
    client.delete_exchange(1, destination);
    client.refused(1, &passive(source), 404, missing(source));
}

#[test]
fn an_internal_exchange_is_fed_by_exchanges_only() {
    let mut client = Client::with_channel();
    let (outer, inner) = (client.temp_exchange(1, "fanout"), unique("inner"));
    client.ok(
        1,
        &ExchangeDeclare {
            internal: true,
            auto_delete: true,
            ..declare(inner, "fanout")
        },
    );
    let queue = client.bound_queue(1, inner, "");
    client.bind_exchange(1, inner, outer, "");
    client.publish(1, outer, "", "through the front door");
    client.consume(1, queue, true);
    assert_eq!(client.delivery(1).text(), "through the front door");
    client.publish(1, inner, "", "through the window");
    let text =
        format!("ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'");
    assert_eq!(client.expect_channel_close(1, 403, &text), (60, 40));
}

#[test]
fn a_message_that_matches_nothing_goes_to_the_alternate_exchange() {
    let mut client = Client::with_channel();
    let (main, last) = (unique("main"), client.temp_exchange(1, "fanout"));
    let middle = unique("middle");
    for (exchange, alternate) in [(middle, last), (main, middle)] {
        let arguments = [("alternate-exchange", alternate)].into_iter().collect();
        client.ok(
            1,
            &ExchangeDeclare {
                arguments,
                ..declare(exchange, "direct")
            },
        );
    }
    let known = client.bound_queue(1, main, "known");
    let rest = client.bound_queue(1, last, "");
    client.publish_confirmed(&[(main, "known", "one"), (main, "unknown", "two")]);
    assert_eq!(client.drain(1, known), ["one"]);
    let delivery = client.get(1, rest, true).expect("a message");
    assert_eq!(
        (delivery.exchange, delivery.routing_key, delivery.text()),
        (main, "unknown", "two")
    );
    client.delete_exchange(1, main);
    client.delete_exchange(1, middle);
}

#[test]
fn an_alternate_exchange_need_not_exist_and_may_be_a_cycle() {
    let mut client = Client::with_channel();
    let (there, back) = (unique("there"), unique("back"));
    for (exchange, alternate) in [(there, back), (back, there)] {
        let arguments = [("alternate-exchange", alternate)].into_iter().collect();
        client.ok(
            1,
            &ExchangeDeclare {
                arguments,
                ..declare(exchange, "direct")
            },
        );
    }
    client.publish_confirmed(&[(there, "nothing", "lost")]);
    client.delete_exchange(1, there);
    client.publish_confirmed(&[(back, "nothing", "lost")]);
    client.delete_exchange(1, back);
}

#[test]
fn an_alternate_exchange_must_be_a_string() {
    let mut client = Client::with_channel();
    let exchange = unique("bad");
    let arguments = [("alternate-exchange", FieldValue::I32(5))]
        .into_iter()
        .collect();
    let bad = ExchangeDeclare {
        arguments,
        ..declare(exchange, "direct")
    };
    let text = format!(
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange '{exchange}' in vhost '/'"
    );
    client.refused(1, &bad, 406, &text);
}

#[test]
fn publishing_to_an_exchange_that_is_not_there_is_404() {
    let mut client = Client::with_channel();
    client.publish(1, "nowhere", "", "lost");
    let ids = client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'");
    assert_eq!(ids, (60, 40));
}
