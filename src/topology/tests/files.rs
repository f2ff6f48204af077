//! Files that are right, files that are wrong, and files that are doubtful.

use crate::model::FieldValue;

use super::*;

#[test]
fn a_file_defines_exchanges_queues_and_bindings() {
    let topology = topology(
        r#"
        [[vhost]]
        name = "shop"

        [[exchange]]
        name = "orders"
        type = "topic"
        vhost = "shop"
        durable = false
        auto_delete = true
        alternate = "amq.fanout"
        arguments = { x-note = "n" }

        [[queue]]
        name = "invoices"
        vhost = "shop"
        durable = false
        auto_delete = true

        [[binding]]
        vhost = "shop"
        from = "orders"
        to_queue = "invoices"
        keys = ["order.*.paid", "order.free"]

        [[queue]]
        name = "all"

        [[binding]]
        from = "amq.headers"
        to_queue = "all"
        headers = { region = "eu", priority = 3 }
        present = ["customer"]
        match = "any"

        [[binding]]
        from = "amq.topic"
        to_exchange = "amq.fanout"
        key = "log.#"
        "#,
    );
    let (root, shop) = (VhostName::from("/"), VhostName::from("shop"));
    assert_eq!(topology.vhosts, [root.clone(), shop.clone()]);

    let mut arguments = FieldTable::new();
    arguments.insert("x-note", "n");
    arguments.insert("alternate-exchange", "amq.fanout");
    let exchange = topology.exchange(&shop, &ExchangeName::from("orders"));
    let expected = ExchangeSettings {
        durable: false,
        auto_delete: true,
        alternate: Some(ExchangeName::from("amq.fanout")),
        arguments: Arc::new(arguments),
        ..ExchangeSettings::new(ExchangeKind::Topic)
    };
    assert_eq!(exchange.map(|exchange| &exchange.settings), Some(&expected));

    let queue = |vhost, name| topology.queue(vhost, &QueueName::from(name));
    let invoices = queue(&shop, "invoices").expect("it is in the file");
    assert!(!invoices.settings.durable && invoices.settings.auto_delete);
    let all = queue(&root, "all").expect("it is in the file");
    assert!(all.settings.durable && !all.settings.auto_delete);
    assert_eq!(queue(&root, "invoices"), None, "names belong to a vhost");

    let headers: FieldTable = [
        ("region", FieldValue::from("eu")),
        ("priority", FieldValue::I32(3)),
        ("customer", FieldValue::Void),
        ("x-match", FieldValue::from("any")),
    ]
    .into_iter()
    .collect();
    let bindings: Vec<_> = topology
        .bindings
        .iter()
        .map(|binding| binding.value.to_string())
        .collect();
    assert_eq!(
        bindings,
        [
            "binding 'orders' -> queue 'invoices' with key 'order.*.paid' in vhost 'shop'",
            "binding 'orders' -> queue 'invoices' with key 'order.free' in vhost 'shop'",
            "binding 'amq.headers' -> queue 'all' with key '' and 4 arguments in vhost '/'",
            "binding 'amq.topic' -> exchange 'amq.fanout' with key 'log.#' in vhost '/'",
        ]
    );
    assert_eq!(*topology.bindings[2].value.binding.arguments, headers);
}

#[test]
fn findings_name_the_place_and_the_cause() {
    for (text, expected) in FINDINGS {
        assert_eq!(read(text).1, *expected, "{text}");
    }
}

#[test]
fn a_missing_file_and_one_that_is_not_text_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("leveret.toml");
    let refused = |path| {
        BrokerFile::load(path)
            .map(|_| ())
            .map_err(|errors| errors.to_string())
    };
    let shown = path.display();
    assert_eq!(
        refused(&path),
        Err(format!("{shown}: No such file or directory (os error 2)"))
    );
    std::fs::write(&path, b"[amqp]\n\xff").expect("the directory takes a file");
    assert_eq!(
        refused(&path),
        Err(format!("{shown}: not UTF-8 text from octet 7 on"))
    );
    std::fs::write(&path, b"\xef\xbb\xbf[amqp]\n").expect("the directory takes a file");
    assert_eq!(refused(&path), Ok(()), "a byte order mark is fine");
}

const FINDINGS: &[(&str, &[&str])] = &[
    (
        "[[exchange]]\nname = \"x\"\ntype = \"topc\"\n",
        &[
            "leveret.toml:3:8: error: 'type' in [[exchange]]: expected \"direct\", \"fanout\", \"topic\", \"headers\", \"x-consistent-hash\", \"x-random\", \"x-modulus-hash\", \"x-recent-history\", \"x-delayed-message\" or \"x-message-deduplication\", found \"topc\"",
        ],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"x-consistent-hash\"\narguments = { hash-property = \"app_id\" }\n",
        &["leveret.toml:1:1: error: Unsupported property: app_id"],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"x-delayed-message\"\n",
        &[
            "leveret.toml:1:1: error: Invalid argument, 'x-delayed-type' must be an existing exchange type",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[exchange]]\nname = \"x\"\ntype = \"x-consistent-hash\"\n[[binding]]\nfrom = \"x\"\nto_queue = \"q\"\nkey = \"heavy\"\n",
        &["leveret.toml:6:1: error: The binding key must be an integer: <<\"heavy\">>"],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[exchange]]\nname = \"x\"\ntype = \"x-recent-history\"\n[[binding]]\nfrom = \"x\"\nto_queue = \"q\"\nkey = \"k\"\n",
        &[
            "leveret.toml:6:1: warning: the key 'k' has no effect, 'x' is an x-recent-history exchange",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[exchange]]\nname = \"x\"\ntype = \"x-random\"\n[[binding]]\nfrom = \"x\"\nto_queue = \"q\"\nkeys = [\"one\", \"two\"]\n",
        &[],
    ),
    (
        "[[exchange]]\nname = \"x\"\n",
        &["leveret.toml:1:1: error: [[exchange]] needs a key 'type'"],
    ),
    (
        "[[exchange]]\nname = \"x\"\nkind = \"topic\"\ntype = \"topic\"\nalternate = \"amq.fanout\"\n",
        &["leveret.toml:3:1: error: unknown key 'kind' in [[exchange]], did you mean 'type'?"],
    ),
    (
        "[[exchange]]\nname = \"amq.mine\"\ntype = \"topic\"\n",
        &["leveret.toml:2:8: error: 'amq.mine': names that begin with 'amq.' are the broker's own"],
    ),
    (
        "[[queue]]\nname = \"amq.mine\"\n",
        &["leveret.toml:2:8: error: 'amq.mine': names that begin with 'amq.' are the broker's own"],
    ),
    (
        "[[queue]]\nname = \"\"\n",
        &[
            "leveret.toml:2:8: error: 'name' in [[queue]]: expected a name in quotes, one line of 1 to 255 octets, found \"\"",
        ],
    ),
    (
        "[[queue]]\nname = \"a\\nb\"\n",
        &[
            "leveret.toml:2:8: error: 'name' in [[queue]]: expected a name in quotes, one line of 1 to 255 octets, found \"a\\nb\"",
        ],
    ),
    (
        "[[queue]]\nname = \"a\"\nvhost = \"shop\"\n[[vhost]]\nname = \"shops\"\n",
        &["leveret.toml:3:9: error: no [[vhost]] 'shop', did you mean 'shops'?"],
    ),
    (
        "[[queue]]\nname = \"a\"\narguments = 3\n",
        &[
            "leveret.toml:3:13: error: 'arguments' in [[queue]]: expected a table such as { name = \"value\" }",
        ],
    ),
    (
        "[[queue]]\nname = \"a\"\narguments = { x-note = 2000-01-01, x-other = 99999999999999999999 }\n",
        &[
            "leveret.toml:3:24: error: 'x-note': AMQP has no such value; there are texts, integers of 64 bits, floats, booleans, points in time since 1970 with their offset, lists and tables",
            "leveret.toml:3:46: error: 'x-other': AMQP has no such value; there are texts, integers of 64 bits, floats, booleans, points in time since 1970 with their offset, lists and tables",
        ],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"fanout\"\nalternate = \"amq.topic\"\narguments = { alternate-exchange = \"amq.topic\" }\n",
        &["leveret.toml:4:13: error: 'arguments' have a second 'alternate-exchange'"],
    ),
    (
        "[[binding]]\nto_queue = \"q\"\n",
        &["leveret.toml:1:1: error: [[binding]] needs a key 'from'"],
    ),
    (
        "[[binding]]\nfrom = \"amq.topic\"\nkey = \"a\"\n",
        &["leveret.toml:1:1: error: [[binding]] needs a key 'to_queue' or 'to_exchange'"],
    ),
    (
        "[[binding]]\nfrom = \"\"\nto_exchange = \"amq.fanout\"\nkey = \"a\"\n",
        &[
            "leveret.toml:2:8: error: 'from' in [[binding]]: expected the name of an exchange other than the default exchange, which cannot be bound, found \"\"",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.topic\"\nto_queue = \"q\"\nto_exchange = \"amq.fanout\"\nkey = \"a\"\nkeys = [\"b\"]\n",
        &[
            "leveret.toml:3:1: error: [[binding]] leads to a queue or to an exchange, not to both",
            "leveret.toml:3:1: error: [[binding]] has 'key' and 'keys', one is enough",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.topic\"\nto_queue = \"q\"\nrouting_key = \"a\"\n",
        &["leveret.toml:6:1: error: unknown key 'routing_key' in [[binding]], did you mean 'key'?"],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.topic\"\nto_queue = \"q\"\nkeys = []\n",
        &["leveret.toml:6:8: warning: 'keys' in [[binding]] is empty, so nothing is bound"],
    ),
    (
        "[[queue]]\nname = \"orders\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_queue = \"order\"\n[[binding]]\nfrom = \"amq.fanuot\"\nto_queue = \"orders\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_exchange = \"nowhere\"\n",
        &[
            "leveret.toml:3:1: error: no queue 'order' in vhost '/', did you mean 'orders'?",
            "leveret.toml:6:1: error: no exchange 'amq.fanuot' in vhost '/', did you mean 'amq.fanout'?",
            "leveret.toml:9:1: error: no exchange 'nowhere' in vhost '/' is defined",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_exchange = \"q\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_queue = \"amq.direct\"\n",
        &[
            "leveret.toml:3:1: error: 'q' is a queue, did you mean 'to_queue'?",
            "leveret.toml:6:1: error: 'amq.direct' is an exchange, did you mean 'to_exchange'?",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.headers\"\nto_queue = \"q\"\nheaders = { a = 1, x-match = \"any\" }\npresent = [\"a\"]\narguments = { a = 2 }\n",
        &[
            "leveret.toml:3:1: error: header 'a' is in 'headers' and in 'present'",
            "leveret.toml:3:1: error: 'a' is an argument and a header of this [[binding]]",
            "leveret.toml:3:1: error: write 'match' instead of a header 'x-match'",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.headers\"\nto_queue = \"q\"\nmatch = \"some\"\n[[binding]]\nfrom = \"amq.headers\"\nto_queue = \"q\"\nmatch = \"any\"\n",
        &[
            "leveret.toml:6:9: error: 'match' in [[binding]]: expected \"all\", \"any\", \"all-with-x\" or \"any-with-x\", found \"some\"",
            "leveret.toml:10:9: error: 'match' in [[binding]] needs 'headers' or 'present'",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.direct\"\nto_queue = \"q\"\nkey = \"logs.*.error\"\n",
        &[
            "leveret.toml:3:1: warning: 'logs.*.error' looks like a topic pattern, but 'amq.direct' is a direct exchange and takes it literally",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.direct\"\nto_queue = \"q\"\nkey = \"c#.f*\"\n",
        &[],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.direct\"\nto_queue = \"q\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_queue = \"q\"\nkey = \"k\"\n",
        &[
            "leveret.toml:3:1: warning: without a key only messages with an empty routing key take this binding of 'amq.direct', a direct exchange",
            "leveret.toml:6:1: warning: the key 'k' has no effect, 'amq.fanout' is a fanout exchange",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.topic\"\nto_queue = \"q\"\nkey = \"#\"\nheaders = { a = 1 }\n",
        &["leveret.toml:3:1: warning: headers have no effect, 'amq.topic' is a topic exchange"],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.headers\"\nto_queue = \"q\"\nheaders = { x-a = 1 }\n[[binding]]\nfrom = \"amq.match\"\nto_queue = \"q\"\nheaders = { x-a = 1 }\nmatch = \"all-with-x\"\n",
        &[
            "leveret.toml:3:1: warning: header 'x-a' is not compared, only match \"all-with-x\" and \"any-with-x\" look at names that begin with 'x-'",
        ],
    ),
    (
        "[[exchange]]\nname = \"lonely\"\ntype = \"topic\"\n",
        &[
            "leveret.toml:1:1: warning: nothing is bound to exchange 'lonely', messages published to it are dropped",
        ],
    ),
    (
        "[[exchange]]\nname = \"in\"\ntype = \"fanout\"\ninternal = true\n[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"in\"\nto_queue = \"q\"\n",
        &[
            "leveret.toml:1:1: warning: nothing leads to the internal exchange 'in', no message can reach it",
        ],
    ),
    (
        "[[exchange]]\nname = \"a\"\ntype = \"fanout\"\nalternate = \"amq.fanuot\"\n",
        &[
            "leveret.toml:1:1: warning: the alternate of 'a' is missing: no exchange 'amq.fanuot' in vhost '/', did you mean 'amq.fanout'?",
        ],
    ),
    (
        "[[exchange]]\nname = \"a\"\ntype = \"fanout\"\nalternate = \"b\"\n[[exchange]]\nname = \"b\"\ntype = \"fanout\"\nalternate = \"a\"\n",
        &[
            "leveret.toml:5:1: warning: alternate exchanges form a circle, what none of them routes is dropped: 'a' -> 'b' -> 'a'",
        ],
    ),
    (
        "[[exchange]]\nname = \"a\"\ntype = \"fanout\"\n[[exchange]]\nname = \"b\"\ntype = \"fanout\"\n[[binding]]\nfrom = \"a\"\nto_exchange = \"b\"\n[[binding]]\nfrom = \"b\"\nto_exchange = \"a\"\n",
        &[
            "leveret.toml:10:1: warning: exchanges are bound in a circle, a message passes each of them once: 'a' -> 'b' -> 'a'",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\narguments = { x-a = 1, x-b = 2 }\n[[queue]]\nname = \"q\"\narguments = { x-b = 2, x-a = 1 }\n",
        &["leveret.toml:4:1: warning: queue 'q' is already defined in line 1"],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"q\"\ndurable = false\n[[queue]]\nname = \"q\"\narguments = { x-a = 1 }\n",
        &[
            "leveret.toml:3:1: error: queue 'q' is already defined in line 1: inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
            "leveret.toml:6:1: warning: queue 'q' is already defined in line 1",
        ],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"fanout\"\nalternate = \"amq.topic\"\n[[exchange]]\nname = \"x\"\ntype = \"topic\"\nalternate = \"amq.topic\"\n",
        &[
            "leveret.toml:5:1: error: exchange 'x' is already defined in line 1: inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'fanout'",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_queue = \"q\"\n[[binding]]\nfrom = \"amq.fanout\"\nto_queue = \"q\"\n",
        &["leveret.toml:6:1: warning: this binding is already defined in line 3"],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"fanout\"\nvhost = \"v\"\n[[vhost]]\nname = \"v\"\n[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"x\"\nto_queue = \"q\"\n",
        &[
            "leveret.toml:1:1: warning: nothing is bound to exchange 'x', messages published to it are dropped",
            "leveret.toml:9:1: error: no exchange 'x' in vhost '/' is defined",
        ],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"b\"\n[[queue]]\nnam = \"q\"\n",
        &[
            "leveret.toml:3:12: warning: the password of user 'a' stands here in the clear, 'leveret hash-password' turns it into a password_hash",
            "leveret.toml:4:1: error: [[queue]] needs a key 'name'",
            "leveret.toml:5:1: error: unknown key 'nam' in [[queue]], did you mean 'name'?",
        ],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"b\"\nvhosts = [\"shp\"]\n[[vhost]]\nname = \"shop\"\n",
        &[
            "leveret.toml:3:12: warning: the password of user 'a' stands here in the clear, 'leveret hash-password' turns it into a password_hash",
            "leveret.toml:4:10: error: no [[vhost]] 'shp', did you mean 'shop'?",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\narguments = { x-message-ttl = \"1s\" }\n",
        &[
            "leveret.toml:1:1: error: invalid arg 'x-message-ttl' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\narguments = { x-mesage-ttl = 1000, x-note = 1 }\n",
        &[
            "leveret.toml:1:1: warning: argument 'x-mesage-ttl' has no effect, did you mean 'x-message-ttl'?",
        ],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"fanout\"\narguments = { alternate_exchange = \"amq.fanout\" }\n",
        &[
            "leveret.toml:1:1: warning: nothing is bound to exchange 'x', messages published to it are dropped",
            "leveret.toml:1:1: warning: argument 'alternate_exchange' has no effect, did you mean 'alternate-exchange'?",
        ],
    ),
    (
        "[[exchange]]\nname = \"x\"\ntype = \"fanout\"\narguments = { alternate-exchange = 5 }\n",
        &[
            "leveret.toml:1:1: error: invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
        ],
    ),
    (
        "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"amq.headers\"\nto_queue = \"q\"\narguments = { x-match = \"some\" }\n",
        &[
            "leveret.toml:3:1: error: Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x",
        ],
    ),
];
