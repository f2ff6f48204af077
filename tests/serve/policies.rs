//! Policies and limits while the broker runs: the file is read again, and they
//! count for what is there.

use leveret_protocol::method::*;

use super::process::Serve;
use crate::support::client::Client;

const FILE: &str = r#"
[[queue]]
name = "lost"

[[binding]]
from = "amq.fanout"
to_queue = "lost"
"#;

const POLICY: &str = r#"
[[policy]]
name = "nothing is lost"
pattern = "^events"
definition = { alternate-exchange = "amq.fanout" }
"#;

const REPLACED: &str = "policies and limits of vhosts replaced";

fn declare_events(client: &mut Client) {
    client.call(
        1,
        &ExchangeDeclare {
            exchange: "events",
            kind: "topic",
            ..ExchangeDeclare::default()
        },
    );
}

#[test]
fn a_policy_comes_and_goes_for_an_exchange_that_is_in_use() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    declare_events(&mut client);
    // The route is known to this connection before it changes.
    client.publish_confirmed(&[("events", "key", "before")]);
    serve.reload(&format!("{FILE}{POLICY}"));
    serve.await_log(REPLACED);
    client.publish_confirmed(&[("events", "key", "with")]);
    serve.reload(FILE);
    serve.await_log(REPLACED);
    client.publish_confirmed(&[("events", "key", "after")]);
    assert_eq!(client.drain(1, "lost"), ["with"]);
    serve.signal("HUP");
    serve.await_log("the file was read again: nothing to change");
}

#[test]
fn a_policy_that_is_wrong_leaves_the_old_ones() {
    let mut serve = Serve::with_file(&format!("{FILE}{POLICY}"));
    let mut client = serve.client();
    declare_events(&mut client);
    serve.reload(&format!("{FILE}{}", POLICY.replace("^events", "^events(")));
    serve.await_log("the file was read again and is not applied");
    serve.await_log("'pattern' in [[policy]]: unclosed group");
    client.publish_confirmed(&[("events", "key", "still there")]);

    // The policy would be fine, but it comes with something that is not.
    let without = FILE.replace("name = \"lost\"\n", "name = \"lost\"\ndurable = false\n");
    serve.reload(&without);
    serve.await_log("the file is not applied");
    client.publish_confirmed(&[("events", "key", "and still")]);
    assert_eq!(client.drain(1, "lost"), ["still there", "and still"]);
}

#[test]
fn a_limit_counts_for_what_comes_after_it() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    let queue = |queue| QueueDeclare {
        queue,
        ..QueueDeclare::default()
    };
    client.declare(1, &queue("second"));
    serve.reload(&format!("{FILE}[[vhost]]\nname = \"/\"\nmax_queues = 1\n"));
    serve.await_log(REPLACED);
    client.declare(1, &queue("second"));
    let text = "PRECONDITION_FAILED - cannot declare queue 'third': queue limit in vhost '/' (1) is reached";
    client.refused(1, &queue("third"), 406, text);
    serve.reload(FILE);
    serve.await_log(REPLACED);
    client.declare(1, &queue("third"));
}

#[test]
fn a_policy_trims_a_queue_that_is_too_long_already() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    client.fill("lost", &["1", "2", "3", "4"]);
    let policy = |length: u32| {
        format!(
            "{FILE}[[policy]]\nname = \"p\"\npattern = \"^lost$\"\n\
             definition = {{ max-length = {length} }}\n"
        )
    };
    serve.reload(&policy(3));
    serve.await_log(REPLACED);
    assert_eq!(client.look_up("lost"), Some((3, 0)));
    client.fill("lost", &["5"]);
    assert_eq!(client.look_up("lost"), Some((3, 0)));
    serve.reload(FILE);
    serve.await_log(REPLACED);
    client.fill("lost", &["6"]);
    assert_eq!(client.drain(1, "lost"), ["3", "4", "5", "6"]);
}
