//! Queues declared again, and the arguments that they are declared with
//! (WIRE.md sections 3 and 4).

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue};

use crate::support::broker::{leak, unique};
use crate::support::client::Client;
use crate::support::leveret_only;

fn declare(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue,
        exclusive: true,
        ..QueueDeclare::default()
    }
}

fn passive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue,
        passive: true,
        ..QueueDeclare::default()
    }
}

fn differs(queue: &str, argument: &str, received: &str, current: &str) -> &'static str {
    leak(format!(
        "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{queue}' in vhost '/': \
         received {received} but current is {current}"
    ))
}

fn arguments(name: &str, value: impl Into<FieldValue>) -> FieldTable {
    [(name, value)].into_iter().collect()
}

/// What another connection's queue is refused with, and a queue whose exclusive
/// flag differs.
pub fn locked(queue: &str) -> &'static str {
    leak(format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. \
         It could be originally declared on another connection or the exclusive property value \
         does not match that of the original declaration."
    ))
}

#[test]
fn a_queue_declared_again_differently_is_406() {
    let mut client = Client::with_channel();
    let queue = unique("other");
    let plain = QueueDeclare {
        queue,
        ..QueueDeclare::default()
    };
    client.declare(1, &plain);
    for (again, argument) in [
        (
            QueueDeclare {
                durable: true,
                ..plain.clone()
            },
            "durable",
        ),
        (
            QueueDeclare {
                auto_delete: true,
                ..plain.clone()
            },
            "auto_delete",
        ),
    ] {
        client.refused(
            1,
            &again,
            406,
            differs(queue, argument, "'true'", "'false'"),
        );
    }
    client.delete_queue(1, queue);
}

#[test]
fn the_exclusive_flag_is_compared_before_the_others() {
    let mut client = Client::with_channel();
    let own = client.temp_queue(1);
    let shared = QueueDeclare {
        exclusive: false,
        auto_delete: true,
        ..declare(own)
    };
    client.refused(1, &shared, 405, locked(own));
    let plain = unique("plain");
    client.declare(
        1,
        &QueueDeclare {
            queue: plain,
            ..QueueDeclare::default()
        },
    );
    client.refused(
        1,
        &QueueDeclare {
            auto_delete: true,
            ..declare(plain)
        },
        405,
        locked(plain),
    );
    client.delete_queue(1, plain);
}

#[test]
fn an_exclusive_queue_is_never_durable_whatever_it_is_declared_as() {
    let mut client = Client::with_channel();
    let queue = unique("both");
    client.declare(
        1,
        &QueueDeclare {
            durable: true,
            ..declare(queue)
        },
    );
    client.declare(1, &declare(queue));
}

#[test]
fn a_passive_declare_compares_nothing() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    let odd = QueueDeclare {
        durable: true,
        auto_delete: true,
        arguments: arguments("x-expires", "never"),
        ..passive(queue)
    };
    client.declare(1, &odd);
}

#[test]
fn a_missing_queue_type_equals_classic() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.declare(
        1,
        &QueueDeclare {
            arguments: arguments("x-queue-type", "classic"),
            ..declare(queue)
        },
    );
}

#[test]
fn an_unknown_queue_type_is_406() {
    let mut client = Client::with_channel();
    let bad = QueueDeclare {
        arguments: arguments("x-queue-type", "hyper"),
        ..declare(unique("bad"))
    };
    client.send(1, &bad);
    client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue*",
    );
}

#[test]
fn arguments_without_effect_here_are_accepted() {
    let mut client = Client::with_channel();
    for (name, value) in [
        ("x-queue-mode", FieldValue::from("lazy")),
        ("x-queue-version", FieldValue::I32(2)),
        ("x-queue-master-locator", "client-local".into()),
    ] {
        let queue = unique("taken");
        client.declare(
            1,
            &QueueDeclare {
                arguments: arguments(name, value),
                ..declare(queue)
            },
        );
    }
}

#[test]
fn known_arguments_are_compared_by_value_whatever_the_integers_width() {
    let mut client = Client::with_channel();
    let queue = unique("version");
    let with = |value| QueueDeclare {
        arguments: arguments("x-queue-version", value),
        ..declare(queue)
    };
    client.declare(1, &with(FieldValue::I32(2)));
    for again in [
        FieldValue::I64(2),
        FieldValue::U8(2),
        FieldValue::I16(2),
        FieldValue::U32(2),
    ] {
        client.declare(1, &with(again));
    }
    let text = differs(queue, "x-queue-version", "'1'", "'2'");
    client.refused(1, &with(FieldValue::I64(1)), 406, text);
    let two = "the value '2' of type 'signedint'";
    let text = differs(queue, "x-queue-version", "none", two);
    client.refused(1, &declare(queue), 406, text);
    let plain = client.temp_queue(1);
    let again = QueueDeclare {
        arguments: arguments("x-queue-version", FieldValue::I32(2)),
        ..declare(plain)
    };
    client.refused(
        1,
        &again,
        406,
        differs(plain, "x-queue-version", two, "none"),
    );
}

#[test]
fn known_arguments_of_a_wrong_type_are_406() {
    let mut client = Client::with_channel();
    for (name, value) in [
        ("x-queue-version", FieldValue::from("2")),
        ("x-queue-mode", FieldValue::I32(1)),
        ("x-queue-type", FieldValue::Bool(true)),
    ] {
        let queue = unique("bad");
        client.send(
            1,
            &QueueDeclare {
                arguments: arguments(name, value),
                ..declare(queue)
            },
        );
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue '{queue}' in vhost '/': *"
        );
        client.expect_channel_close(1, 406, &text);
        client.open_channel(1);
    }
}

#[test]
fn arguments_of_the_applications_own_are_kept_and_not_compared() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.declare(
        1,
        &QueueDeclare {
            arguments: arguments("colour", "blue"),
            ..declare(queue)
        },
    );
}

/// What RabbitMQ's queues act by: a value, and another.
fn acted_by() -> Vec<(&'static str, FieldValue, FieldValue)> {
    let int = FieldValue::I32;
    vec![
        ("x-message-ttl", int(60_000), int(1)),
        ("x-expires", int(60_000), int(90_000)),
        ("x-max-length", int(10), int(0)),
        ("x-max-length-bytes", int(1_000), int(2_000)),
        ("x-overflow", "drop-head".into(), "reject-publish".into()),
        ("x-dead-letter-exchange", "amq.fanout".into(), "".into()),
        ("x-max-priority", int(10), int(5)),
        ("x-single-active-consumer", false.into(), true.into()),
    ]
}

#[test]
fn arguments_that_a_queue_acts_by_are_taken_and_compared() {
    let mut client = Client::with_channel();
    for (name, value, other) in acted_by() {
        let queue = unique("rules");
        let with = |value| QueueDeclare {
            arguments: arguments(name, value),
            ..declare(queue)
        };
        client.declare(1, &with(value.clone()));
        client.declare(1, &with(value));
        let none = declare(queue);
        let text = |rest: &str| {
            leak(format!(
                "PRECONDITION_FAILED - inequivalent arg '{name}' for queue '{queue}' in vhost '/': \
                 received {rest}*"
            ))
        };
        client.refused(1, &none, 406, text("none but current is the value '"));
        client.refused(1, &with(other), 406, text("'"));
        // What is there is only compared with: a value that would be refused
        // is a different one.
        client.refused(1, &with(FieldValue::Timestamp(1)), 406, text("'1'"));
        client.delete_queue(1, queue);
    }
}

#[test]
fn a_dead_letter_key_needs_a_dead_letter_exchange() {
    let mut client = Client::with_channel();
    let (exchange, key) = ("x-dead-letter-exchange", "x-dead-letter-routing-key");
    let queue = unique("key");
    let alone = QueueDeclare {
        arguments: arguments(key, "dead"),
        ..declare(queue)
    };
    let text = format!(
        "PRECONDITION_FAILED - invalid arg '{key}' for queue '{queue}' in vhost '/': \
         routing_key_but_no_dlx_defined"
    );
    client.refused(1, &alone, 406, leak(text));
    let both = QueueDeclare {
        arguments: [(key, "dead"), (exchange, "amq.fanout")]
            .into_iter()
            .collect(),
        ..declare(queue)
    };
    client.declare(1, &both);
    client.declare(1, &both);
}

#[test]
fn bad_values_of_what_a_queue_acts_by_are_406() {
    let mut client = Client::with_channel();
    for (name, value, text) in [
        ("x-message-ttl", FieldValue::I32(-1), "{value_negative,-1}"),
        (
            "x-message-ttl",
            FieldValue::I64(315_360_000_001),
            "{value_too_large,315360000001}",
        ),
        (
            "x-message-ttl",
            "60000".into(),
            "\"expected integer, got longstr\"",
        ),
        ("x-expires", FieldValue::I32(0), "{value_zero,0}"),
        (
            "x-max-length",
            FieldValue::F64(1.0),
            "\"expected integer, got double\"",
        ),
        (
            "x-max-priority",
            FieldValue::I32(256),
            "{max_value_exceeded,256}",
        ),
        ("x-overflow", "drop".into(), "invalid_overflow"),
        (
            "x-single-active-consumer",
            "true".into(),
            "{unacceptable_type,longstr}",
        ),
    ] {
        let queue = unique("bad");
        let bad = QueueDeclare {
            arguments: arguments(name, value),
            ..declare(queue)
        };
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue '{queue}' in vhost '/': {text}"
        );
        client.refused(1, &bad, 406, leak(text));
        assert_eq!(client.look_up(queue), None);
    }
}

#[test]
fn a_quorum_queue_is_durable_and_shared_and_stays_what_it_is() {
    let mut client = Client::with_channel();
    let queue = unique("quorum");
    let quorum = QueueDeclare {
        queue,
        durable: true,
        arguments: arguments("x-queue-type", "quorum"),
        ..QueueDeclare::default()
    };
    for (property, refused) in [
        (
            "non-durable",
            QueueDeclare {
                durable: false,
                ..quorum.clone()
            },
        ),
        (
            "exclusive-owner",
            QueueDeclare {
                exclusive: true,
                ..quorum.clone()
            },
        ),
        (
            "auto-delete",
            QueueDeclare {
                auto_delete: true,
                exclusive: true,
                ..quorum.clone()
            },
        ),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - invalid property '{property}' for queue '{queue}' in vhost '/'"
        );
        client.refused(1, &refused, 406, leak(text));
    }
    client.declare(1, &quorum);
    client.declare(1, &quorum);
    client.fill(queue, &["kept"]);
    // It counts deliveries.
    let consumer = client.consume(1, queue, false);
    for count in [None, Some(1), Some(2)] {
        let delivery = client.delivery(1);
        let found = delivery.header("x-delivery-count");
        assert_eq!(found.and_then(FieldValue::as_integer), count);
        client.nack(1, delivery.tag, false, count != Some(2));
    }
    client.cancel(1, consumer);
    client.delete_queue(1, queue);

    let classic = QueueDeclare {
        arguments: FieldTable::new(),
        ..quorum.clone()
    };
    client.declare(1, &classic);
    let text = differs(
        queue,
        "x-queue-type",
        "the value 'quorum' of type 'longstr'",
        "none",
    );
    client.refused(1, &quorum, 406, text);
    client.delete_queue(1, queue);
}

#[test]
fn a_stream_is_refused_and_not_made_a_queue() {
    leveret_only!("RabbitMQ has streams");
    let mut client = Client::with_channel();
    let queue = unique("stream");
    let stream = QueueDeclare {
        queue,
        durable: true,
        arguments: arguments("x-queue-type", "stream"),
        ..QueueDeclare::default()
    };
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '{queue}' in vhost '/': \
         \"unsupported queue type 'stream'\""
    );
    client.refused(1, &stream, 406, leak(text));
    assert_eq!(client.look_up(queue), None);
}
