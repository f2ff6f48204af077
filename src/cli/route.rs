//! `leveret route`: where a message would go, and why.
//!
//! It asks the router that the broker uses, filled from the file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};
use toml::de::DeValue;

use crate::config::did_you_mean;
use crate::model::{Destination, ExchangeName, FieldTable, FieldValue, QueueName, VhostName};
use crate::routing::{
    Alternate, Explanation, Identifiers, Match, Publish, RoutingTable, Step, Via,
};
use crate::topology::{BrokerFile, Topology, field_value};

/// Explains where a message goes.
#[derive(Clone, Debug, clap::Args)]
pub struct RouteArgs {
    /// The file that defines exchanges, queues and bindings.
    pub file: PathBuf,

    /// The exchange that the message is published to; "" is the default exchange.
    #[arg(long, value_name = "NAME")]
    pub exchange: String,

    /// Its routing key; more stand for its CC and BCC headers.
    #[arg(long = "key", value_name = "KEY", default_value = "")]
    pub keys: Vec<String>,

    /// One of its headers. Numbers and booleans are what they are, as in TOML; anything else
    /// is a text, and so is a number in quotes.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, FieldValue)>,

    /// Its property message-id, which a consistent-hash exchange may hash.
    #[arg(long, value_name = "TEXT")]
    pub message_id: Option<String>,

    /// Its property correlation-id.
    #[arg(long, value_name = "TEXT")]
    pub correlation_id: Option<String>,

    /// Its property timestamp.
    #[arg(long, value_name = "SECONDS")]
    pub timestamp: Option<u64>,

    /// The number that is drawn for it, which decides at random exchanges; the same one always
    /// leads to the same queues.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub random: u64,

    /// The virtual host.
    #[arg(long, value_name = "NAME", default_value = "/")]
    pub vhost: String,

    /// Print an object for programs.
    #[arg(long)]
    pub json: bool,
}

/// Prints the exchanges that the message visits, the bindings that take it, and
/// the queues that it reaches.
///
/// # Errors
/// If the file is wrong, or has no such virtual host or exchange.
pub fn run(args: &RouteArgs) -> anyhow::Result<ExitCode> {
    let file = BrokerFile::load(&args.file)?;
    let topology = &file.topology;
    let vhost = VhostName::from(args.vhost.as_str());
    let vhosts = topology.vhosts.iter().map(VhostName::as_str);
    if !topology.vhosts.contains(&vhost) {
        bail!(missing("vhost", &args.vhost, vhosts.collect()));
    }
    let table = topology.routing_table(&vhost);
    let exchanges = table.exchanges().map(|(name, _)| name.as_str());
    if !args.exchange.is_empty() && table.exchange(&args.exchange).is_none() {
        bail!(missing("exchange", &args.exchange, exchanges.collect()));
    }

    let keys: Vec<&str> = args.keys.iter().map(String::as_str).collect();
    let headers: FieldTable = args.headers.iter().cloned().collect();
    let publish = Publish {
        identifiers: Identifiers {
            message_id: args.message_id.as_deref(),
            correlation_id: args.correlation_id.as_deref(),
            timestamp: args.timestamp,
        },
        random: args.random,
        ..Publish::new(&keys, &headers)
    };
    let explanation = table.explain(&args.exchange, &publish);
    let undefined = undefined_queues(&explanation, topology, &vhost);
    let internal = is_internal(&table, &args.exchange);
    if args.json {
        let mut object = to_json(&explanation, &undefined);
        object["internal"] = internal.into();
        println!("{}", serde_json::to_string_pretty(&object)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", explanation.to_string().trim_end());
    for queue in undefined {
        println!("the file defines no queue '{queue}': dropped, unless a client declares it");
    }
    if internal {
        println!(
            "clients cannot publish to '{}', it is internal",
            args.exchange
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Queues that the default exchange would find if they were there.
fn undefined_queues<'e>(
    explanation: &'e Explanation,
    topology: &Topology,
    vhost: &VhostName,
) -> Vec<&'e QueueName> {
    let queues = explanation.queues.iter();
    queues
        .filter(|queue| topology.queue(vhost, queue).is_none())
        .collect()
}

fn is_internal(table: &RoutingTable, exchange: &str) -> bool {
    table
        .exchange(exchange)
        .is_some_and(|settings| settings.internal)
}

fn missing(what: &str, name: &str, known: Vec<&str>) -> String {
    match did_you_mean(name, known.into_iter()) {
        Some(meant) => format!("no {what} '{name}', did you mean '{meant}'?"),
        None => format!("no {what} '{name}'"),
    }
}

fn header(text: &str) -> Result<(String, FieldValue), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let typed = DeValue::parse(value).ok();
    let typed = typed.filter(|value| !value.get_ref().is_array() && !value.get_ref().is_table());
    let typed = typed.and_then(|value| field_value(value.get_ref()));
    Ok((
        name.to_owned(),
        typed.unwrap_or_else(|| FieldValue::from(value)),
    ))
}

fn to_json(explanation: &Explanation, undefined: &[&QueueName]) -> Value {
    let defined = explanation
        .queues
        .iter()
        .filter(|queue| !undefined.contains(queue));
    json!({
        "exchange": explanation.exchange.as_str(),
        "steps": explanation.steps.iter().map(step_to_json).collect::<Vec<_>>(),
        "queues": defined.map(QueueName::as_str).collect::<Vec<_>>(),
        "undefined_queues": undefined.iter().map(|queue| queue.as_str()).collect::<Vec<_>>(),
    })
}

fn step_to_json(step: &Step) -> Value {
    let (via, from) = match &step.via {
        Via::Published => ("published", None),
        Via::Binding(from) => ("binding", Some(from.as_str())),
        Via::AlternateOf(from) => ("alternate", Some(from.as_str())),
    };
    let (alternate, outcome) = match &step.alternate {
        Alternate::NotNeeded => (None, "not needed"),
        Alternate::None => (None, "none"),
        Alternate::Taken(name) => (Some(name), "taken"),
        Alternate::AlreadyVisited(name) => (Some(name), "already visited"),
        Alternate::Missing(name) => (Some(name), "missing"),
    };
    json!({
        "exchange": step.exchange.as_str(),
        "type": step.kind.name(),
        "routes_as": step.routes_as.name(),
        "via": via,
        "from": from,
        "matched": step.matched.iter().map(match_to_json).collect::<Vec<_>>(),
        "unmatched": step.unmatched,
        "alternate": alternate.map(ExchangeName::as_str),
        "alternate_outcome": outcome,
    })
}

fn match_to_json(matched: &Match) -> Value {
    let (kind, name) = match &matched.binding.destination {
        Destination::Queue(name) => ("queue", name.as_str()),
        Destination::Exchange(name) => ("exchange", name.as_str()),
    };
    json!({
        "to": { kind: name },
        "key": matched.binding.routing_key.as_str(),
        "reason": matched.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_types_that_toml_gives_them() {
        for (text, name, value) in [
            ("region=eu", "region", FieldValue::from("eu")),
            ("total=70", "total", FieldValue::I32(70)),
            ("total=\"70\"", "total", FieldValue::from("70")),
            ("express=true", "express", FieldValue::Bool(true)),
            ("price=9.5", "price", FieldValue::F64(9.5)),
            ("formula=a=b", "formula", FieldValue::from("a=b")),
            ("empty=", "empty", FieldValue::from("")),
            ("list=[1]", "list", FieldValue::from("[1]")),
            ("when=2000-01-01", "when", FieldValue::from("2000-01-01")),
        ] {
            assert_eq!(header(text), Ok((name.to_owned(), value)), "{text}");
        }
        assert_eq!(header("region"), Err("expected NAME=VALUE".to_owned()));
    }
}
