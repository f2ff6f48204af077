//! Policies and limits of virtual hosts, as clients meet them; RabbitMQ has both
//! and no file for them.

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue};

use crate::support::broker::leveret_with;
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::leveret_only;

fn connect(file: &str) -> Client {
    let mut client = Client::connect_at(leveret_with(file), &Login::default());
    client.open_channel(1);
    client
}

fn queue(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: name,
        ..QueueDeclare::default()
    }
}

#[test]
fn what_no_binding_matches_goes_to_the_alternate_of_the_policy() {
    leveret_only!("needs a policy");
    let mut client = connect(
        r#"
        [[queue]]
        name = "lost"

        [[binding]]
        from = "amq.fanout"
        to_queue = "lost"

        [[policy]]
        name = "nothing is lost"
        pattern = "^(events|amq\\.direct)$"
        apply_to = "exchanges"
        definition = { alternate-exchange = "amq.fanout" }
        "#,
    );
    for exchange in ["events", "others"] {
        client.call(
            1,
            &ExchangeDeclare {
                exchange,
                kind: "topic",
                ..ExchangeDeclare::default()
            },
        );
    }
    client.publish_confirmed(&[
        ("events", "key", "of a client's exchange"),
        ("others", "key", "of another one"),
        ("amq.direct", "key", "of one that is always there"),
        ("", "nowhere", "of the default exchange"),
    ]);
    assert_eq!(
        client.drain(1, "lost"),
        ["of a client's exchange", "of one that is always there"]
    );
}

#[test]
fn a_policy_is_no_part_of_what_was_declared() {
    leveret_only!("needs a policy");
    let mut client = connect(
        "[[policy]]\nname = \"p\"\npattern = \"\"\n\
         definition = { max-length = 5, alternate-exchange = \"amq.fanout\" }\n",
    );
    let with = |max_length| QueueDeclare {
        arguments: [("x-max-length", FieldValue::I32(max_length))]
            .into_iter()
            .collect(),
        ..queue("limited")
    };
    client.declare(1, &with(9));
    client.declare(1, &with(9));
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'limited' in \
                vhost '/': received '5' but current is '9'";
    client.refused(1, &with(5), 406, text);
    let exchange = ExchangeDeclare {
        exchange: "x",
        kind: "fanout",
        ..ExchangeDeclare::default()
    };
    client.call(1, &exchange);
    client.call(1, &exchange);
    let own = ExchangeDeclare {
        arguments: FieldTable::from_iter([("alternate-exchange", "amq.fanout")]),
        ..exchange
    };
    let text = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in \
                vhost '/': received the value 'amq.fanout' of type 'longstr' but current is none";
    client.refused(1, &own, 406, text);
}

#[test]
fn one_queue_more_than_the_virtual_host_may_have_is_406() {
    leveret_only!("needs a limit");
    let mut client =
        connect("[[vhost]]\nname = \"/\"\nmax_queues = 2\n[[queue]]\nname = \"first\"\n");
    let second = client.temp_queue(1);
    let refused = |name: &str| {
        format!(
            "PRECONDITION_FAILED - cannot declare queue '{name}': queue limit in vhost '/' (2) is reached"
        )
    };
    client.refused(1, &queue("third"), 406, &refused("third"));
    // It is looked at before the arguments, and after what is there.
    let bad = QueueDeclare {
        arguments: FieldTable::from_iter([("x-message-ttl", "soon")]),
        ..queue("third")
    };
    client.refused(1, &bad, 406, &refused("third"));
    let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'first' in vhost '/': \
                received 'false' but current is 'true'";
    client.refused(1, &queue("first"), 406, text);
    let text = "ACCESS_REFUSED - queue name 'amq.own' contains reserved prefix 'amq.*'";
    client.refused(1, &queue("amq.own"), 403, text);

    client.delete_queue(1, second);
    client.declare(1, &queue("third"));
}

#[test]
fn one_connection_more_than_the_virtual_host_may_have_is_530() {
    leveret_only!("needs a limit");
    let address = leveret_with(
        "[limits]\nconnections_per_vhost_max = 1\n\
         [[vhost]]\nname = \"two\"\nmax_connections = 2\n\
         [[user]]\nname = \"guest\"\npassword = \"guest\"\nvhosts = [\"/\", \"two\"]\n",
    );
    for (vhost, limit) in [("two", 2), ("/", 1)] {
        let login = Login {
            vhost,
            ..Login::default()
        };
        let open: Vec<_> = (0..limit)
            .map(|_| Client::connect_at(address, &login))
            .collect();
        let mut refused = Client::dial_at(address);
        refused.greet();
        let tune = refused.log_in(&login);
        refused.tune_ok(tune.channel_max, tune.frame_max, 0);
        let open_ok = ConnectionOpen {
            virtual_host: vhost,
            ..ConnectionOpen::default()
        };
        let text = format!(
            "NOT_ALLOWED - access to vhost '{vhost}' refused for user 'guest': connection limit \
             ({limit}) is reached"
        );
        refused.fatal(0, &open_ok, 530, &text);
        drop(open);
    }
}

/// A policy with the name of its pattern.
fn policy(pattern: &str, definition: &str) -> String {
    format!(
        "[[policy]]\nname = '{pattern}'\npattern = '{pattern}'\n\
         definition = {{ {definition} }}\n"
    )
}

#[test]
fn a_policy_limits_a_queue_and_says_where_its_dead_letters_go() {
    leveret_only!("needs a policy");
    let mut client = connect(
        &("[[queue]]\nname = \"dead\"\n".to_owned()
            + &policy(
                "^short",
                "max-length = 2, dead-letter-exchange = \"\", dead-letter-routing-key = \"dead\"",
            )),
    );
    let longer = QueueDeclare {
        arguments: FieldTable::from_iter([("x-max-length", FieldValue::I32(9))]),
        ..queue("short")
    };
    client.declare(1, &longer);
    client.fill("short", &["1", "2", "3"]);
    assert_eq!(client.await_message(1, "dead").text(), "1");
    assert_eq!(client.drain(1, "short"), ["2", "3"]);
}

#[test]
fn a_policys_ttl_counts_for_messages_that_have_none() {
    leveret_only!("needs a policy");
    let mut client = connect(
        &("[[queue]]\nname = \"dead\"\n".to_owned()
            + &policy(
                "^brief$",
                "message-ttl = \"20ms\", dead-letter-exchange = \"\", dead-letter-routing-key = \"dead\"",
            )),
    );
    client.declare(1, &queue("brief"));
    client.fill("brief", &["old"]);
    assert_eq!(client.await_message(1, "dead").text(), "old");
    assert_eq!(client.look_up("brief"), Some((0, 0)));
}

#[test]
fn a_policy_for_quorum_queues_is_for_them_alone() {
    leveret_only!("needs a policy");
    let mut client = connect(
        "[[policy]]\nname = \"p\"\npattern = \"\"\napply_to = \"quorum_queues\"\n\
         definition = { max-length = 1 }\n",
    );
    let quorum = QueueDeclare {
        durable: true,
        arguments: FieldTable::from_iter([("x-queue-type", "quorum")]),
        ..queue("quorum")
    };
    client.declare(1, &quorum);
    client.declare(1, &queue("classic"));
    for name in ["quorum", "classic"] {
        client.fill(name, &["1", "2"]);
    }
    assert_eq!(client.drain(1, "quorum"), ["2"]);
    assert_eq!(client.drain(1, "classic"), ["1", "2"]);
}
