//! SIGHUP: the file is read again and applied as a whole, or not at all.

use leveret_protocol::Method;
use leveret_protocol::method::*;

use super::process::Serve;
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::matched;

const FILE: &str = r#"
[[exchange]]
name = "logs"
type = "topic"

[[queue]]
name = "errors"

[[binding]]
from = "logs"
to_queue = "errors"
key = "*.error"
"#;

#[test]
fn what_is_new_is_there_for_those_who_are_connected_too() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    // The route is known to this connection before it changes.
    client.publish_confirmed(&[("logs", "web.error", "before")]);
    serve.reload(&format!(
        r##"{FILE}
[[queue]]
name = "everything"

[[exchange]]
name = "copies"
type = "fanout"

[[binding]]
from = "logs"
to_exchange = "copies"
key = "#"

[[binding]]
from = "copies"
to_queue = "everything"
"##
    ));
    serve.await_log("added fanout exchange 'copies' in vhost '/'");
    serve.await_log("added queue 'everything' in vhost '/'");
    serve.await_log("added binding 'logs' -> exchange 'copies' with key '#' in vhost '/'");
    serve.await_log("added binding 'copies' -> queue 'everything' with key '' in vhost '/'");
    let mut late = serve.client();
    for publisher in [&mut client, &mut late] {
        publisher.publish_confirmed(&[("logs", "web.error", "after")]);
    }
    assert_eq!(client.drain(1, "errors"), ["before", "after", "after"]);
    assert_eq!(client.drain(1, "everything"), ["after", "after"]);
}

#[test]
fn bindings_that_are_gone_from_the_file_are_gone_and_queues_stay() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    client.publish_confirmed(&[("logs", "web.error", "routed")]);
    serve.reload("[[exchange]]\nname = \"logs\"\ntype = \"topic\"\n");
    serve.await_log("removed binding 'logs' -> queue 'errors' with key '*.error' in vhost '/'");
    serve.await_log("queue 'errors' in vhost '/' is no longer in the file and stays");
    client.publish_confirmed(&[("logs", "web.error", "nowhere"), ("", "errors", "by name")]);
    assert_eq!(client.drain(1, "errors"), ["routed", "by name"]);
}

#[test]
fn what_a_client_deleted_is_there_again() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    client.call(
        1,
        &QueueDelete {
            queue: "errors",
            ..QueueDelete::default()
        },
    );
    client.publish_confirmed(&[("logs", "web.error", "nowhere")]);
    serve.reload(FILE);
    serve.await_log("the file was read again: nothing to change");
    client.publish_confirmed(&[("logs", "web.error", "routed")]);
    assert_eq!(client.drain(1, "errors"), ["routed"]);
}

#[test]
fn an_unchanged_file_changes_nothing() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    client.fill("errors", &["kept"]);
    serve.signal("HUP");
    serve.await_log("nothing to change");
    assert_eq!(client.drain(1, "errors"), ["kept"]);
}

#[test]
fn a_broken_file_changes_nothing_and_the_log_says_where() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    serve.reload(&format!(
        "{FILE}\n[[queue]]\nname = \"new\"\n\n[[queue]]\nname = \"other\"\ndurabel = true\n\
         [[binding]]\nfrom = \"longs\"\nto_queue = \"new\"\n"
    ));
    serve.await_log("the file was read again and is not applied");
    serve.await_log("leveret.toml:19:1: ");
    assert_eq!(client.look_up("new"), None);
    assert_eq!(client.look_up("errors"), Some((0, 0)));

    serve.reload("[[queue]\nname = \"new\"\n");
    serve.await_log("the file was read again and is not applied");
    serve.await_log("leveret.toml:1:");

    std::fs::remove_file(serve.path("leveret.toml")).expect("it is there");
    serve.signal("HUP");
    serve.await_log("the file was read again and is not applied");
    serve.await_log("leveret.toml: No such file");
    client.publish_confirmed(&[("logs", "web.error", "routed")]);
    assert_eq!(client.drain(1, "errors"), ["routed"]);

    // What was refused is not held against a file that is right.
    serve.reload(&format!("{FILE}\n[[queue]]\nname = \"new\"\n"));
    serve.await_log("added queue 'new'");
    assert_eq!(client.look_up("new"), Some((0, 0)));
}

#[test]
fn what_exists_does_not_get_other_settings() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    let changed = FILE.replace("name = \"errors\"", "name = \"errors\"\ndurable = false");
    serve.reload(&format!("{changed}\n[[queue]]\nname = \"new\"\n"));
    let line = serve.await_log("the file is not applied");
    assert!(
        line.contains("inequivalent arg 'durable' for queue 'errors' in vhost '/'"),
        "{line}"
    );
    assert!(line.contains("line=6"), "{line}");
    assert_eq!(client.look_up("new"), None);

    serve.reload(&FILE.replace("topic", "direct"));
    let line = serve.await_log("the file is not applied");
    assert!(
        line.contains("received 'direct' but current is 'topic'"),
        "{line}"
    );
}

#[test]
fn what_clients_declared_is_not_overridden() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    let queue = QueueDeclare {
        queue: "tasks",
        ..QueueDeclare::default()
    };
    client.declare(1, &queue);
    // Virtual hosts come in the order of their names: this one before "/".
    let wanted = r##"
[[vhost]]
name = "#new"

[[queue]]
name = "in-the-new"
vhost = "#new"

[[queue]]
name = "new"

[[queue]]
name = "tasks"
durable = true

[[user]]
name = "guest"
password = "guest"
vhosts = ["/", "#new"]
"##;
    serve.reload(&format!("{FILE}{wanted}"));
    let line = serve.await_log("the file is not applied");
    assert!(
        line.contains("inequivalent arg 'durable' for queue 'tasks' in vhost '/'"),
        "{line}"
    );
    assert_eq!(client.look_up("new"), None);
    assert_eq!(client.look_up("tasks"), Some((0, 0)));

    client.delete_queue(1, "tasks");
    serve.signal("HUP");
    serve.await_log("added queue 'tasks' in vhost '/'");
    serve.await_log("users replaced");
    assert_eq!(client.look_up("new"), Some((0, 0)));
    let mut other = serve.client_with(&Login {
        vhost: "#new",
        ..Login::default()
    });
    assert_eq!(other.look_up("in-the-new"), Some((0, 0)));
}

#[test]
fn a_refused_file_leaves_no_virtual_host_behind() {
    const USERS: &str =
        "[[user]]\nname = \"guest\"\npassword = \"guest\"\nvhosts = [\"/\", \"#new\"]\n";
    const VHOST: &str = "[[vhost]]\nname = \"#new\"\n";
    let without = FILE.to_owned();
    let mut serve = Serve::with_file(&without);
    let mut client = serve.client();
    client.declare(
        1,
        &QueueDeclare {
            queue: "tasks",
            ..QueueDeclare::default()
        },
    );
    let of_vhost = "[[queue]]\nname = \"in-the-new\"\nvhost = \"#new\"\n";
    serve.reload(&format!(
        "{without}{VHOST}{of_vhost}[[queue]]\nname = \"tasks\"\n{USERS}"
    ));
    serve.await_log("the file is not applied");
    // The user may open it from now on, if only it existed.
    serve.reload(&format!("{without}{VHOST}{USERS}"));
    serve.await_log("added vhost '#new'");
    serve.await_log("users replaced");
    let mut other = serve.client_with(&Login {
        vhost: "#new",
        ..Login::default()
    });
    assert_eq!(other.look_up("in-the-new"), None);
}

#[test]
fn changed_users_count_for_new_logins() {
    let user = |name: &str, password: &str| {
        format!("[[user]]\nname = \"{name}\"\npassword = \"{password}\"\n")
    };
    let login = |user, password| Login {
        user,
        password,
        ..Login::default()
    };
    let mut serve = Serve::with_file(&(user("old", "first") + &user("both", "first")));
    let mut connected = serve.client_with(&login("old", "first"));
    serve.client_with(&login("both", "first")).close();

    serve.reload(&(user("both", "second") + &user("new", "first")));
    serve.await_log("users replaced");
    connected.sync(1);
    serve.client_with(&login("both", "second")).close();
    serve.client_with(&login("new", "first")).close();
    for gone in [
        login("old", "first"),
        login("both", "first"),
        login("guest", "guest"),
    ] {
        let mut client = Client::dial_at(serve.address());
        client.greet();
        client.start_ok(&gone, "PLAIN", &gone.plain());
        matched!(client.next_method(0), Method::ConnectionClose(close) => {
            assert_eq!(close.reply_code, 403, "{}", close.reply_text);
        });
    }
}

#[test]
fn settings_that_take_a_restart_are_named() {
    let mut serve = Serve::with_file(FILE);
    let mut client = serve.client();
    serve.reload(&format!(
        "{FILE}\n[limits]\nmessage_size_max = \"1KiB\"\n[amqp]\nheartbeat = \"5s\"\n"
    ));
    let line = serve.await_log("[amqp], [limits] changed, which takes effect at the next start");
    assert!(line.contains("WARN"), "{line}");
    client.fill("errors", &[&"x".repeat(2_000)]);
}

#[test]
fn a_server_without_a_file_survives_the_signal() {
    let mut serve = Serve::new(&[]);
    let mut client = serve.client();
    serve.signal("HUP");
    serve.await_log("nothing to change");
    client.sync(1);
}
