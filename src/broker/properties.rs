//! What a message's properties ask of the broker: more routing keys (CC, BCC),
//! a checked user, things that are not built.

use leveret_protocol::header::{self, IdentifierScan, PROPERTIES_OFFSET, PropertyScan};
use leveret_protocol::{DecodeError, Limits, table};

use crate::model::{
    BrokerError, CANCEL_HEADER, FieldTable, FieldValue, Message, TIMER_MAX, Traits, UserName,
    deliver_at,
};
use crate::routing::Identifiers;

/// A message's properties as far as the broker looks at them.
#[derive(Debug)]
pub(super) struct Notable<'a> {
    headers: Option<&'a [u8]>,
    extra_keys: Vec<String>,
    traits: Traits,
}

impl<'a> Notable<'a> {
    /// Reads and checks them. `header` is a content header's payload.
    ///
    /// # Errors
    /// 406 for another user's id, a bad message TTL, CC or BCC that is no list.
    pub(super) fn new(header: &'a [u8], user: &UserName) -> Result<Self, BrokerError> {
        let properties = header.get(PROPERTIES_OFFSET..).unwrap_or_default();
        let scan = PropertyScan::new(properties).map_err(malformed)?;
        if let Some(claimed) = scan.user_id
            && claimed != user.as_str()
        {
            return Err(BrokerError::Precondition(format!(
                "user_id property set to '{claimed}' but authenticated user was '{user}'"
            )));
        }
        let mut traits = Traits::new(scan.persistent());
        if let Some(expiration) = scan.expiration {
            check_expiration(expiration)?;
            traits = traits.with_expiration();
        }
        let mut notable = Self {
            headers: scan.headers,
            extra_keys: Vec::new(),
            traits,
        };
        if let Some(entries) = scan.headers {
            table::validate(entries, &Limits::default()).map_err(malformed)?;
            // Hardly any message has them, and a search of octets says so.
            if entries.windows(2).any(|octets| octets == b"CC") {
                notable.add_keys(entries, "CC")?;
                if notable.add_keys(entries, "BCC")? {
                    notable.traits = notable.traits.with_blind_copies();
                }
            }
            if entries.windows(8).any(|octets| octets == b"x-cancel")
                && let Some(id) = scan
                    .header(CANCEL_HEADER, &Limits::default())
                    .map_err(malformed)?
            {
                let Some(_) = id.as_str() else {
                    return Err(BrokerError::Precondition(format!(
                        "unexpected format for '{CANCEL_HEADER}' header: a message-id is expected, got {}",
                        id.type_name()
                    )));
                };
                notable.traits = notable.traits.with_cancellation();
            }
            if entries.windows(3).any(|octets| octets == b"x-d") && deliver_at(&scan, 0).is_some() {
                notable.traits = notable.traits.with_schedule();
            }
        }
        Ok(notable)
    }

    /// What is to be known of it later.
    pub(super) fn traits(&self) -> Traits {
        self.traits
    }

    /// The headers table's entries in wire form.
    pub(super) fn headers(&self) -> Option<&[u8]> {
        self.headers
    }

    /// Routing keys beside the message's own.
    pub(super) fn extra_keys(&self) -> &[String] {
        &self.extra_keys
    }

    /// The headers for a headers exchange.
    pub(super) fn decode_headers(&self) -> Result<FieldTable, BrokerError> {
        match self.headers {
            Some(entries) => table::decode(entries, &Limits::default()).map_err(malformed),
            None => Ok(FieldTable::new()),
        }
    }

    /// Adds the keys of one header; whether it is there.
    fn add_keys(&mut self, entries: &[u8], name: &str) -> Result<bool, BrokerError> {
        let value = table::find(entries, name, &Limits::default()).map_err(malformed)?;
        let Some(value) = value else {
            return Ok(false);
        };
        let keys = match &value {
            FieldValue::Array(keys) => keys
                .iter()
                .map(FieldValue::as_str)
                .collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let Some(keys) = keys else {
            return Err(BrokerError::Precondition(format!(
                "unexpected format for '{name}' header: an array of strings is expected, got {}",
                value.type_name()
            )));
        };
        self.extra_keys.extend(keys.into_iter().map(str::to_owned));
        Ok(true)
    }
}

/// The keys of the header CC or BCC of a message that was taken in before.
pub(super) fn copies(headers: &FieldTable, name: &str) -> Vec<String> {
    match headers.get(name) {
        Some(FieldValue::Array(keys)) => keys
            .iter()
            .filter_map(FieldValue::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// What a message that was taken in before shows to the router.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    routing_key: &'a str,
    extra_keys: Vec<String>,
    pub(super) headers: FieldTable,
    pub(super) identifiers: Identifiers<'a>,
}

impl<'a> Shown<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// 502 if its properties are malformed, which those of a message that was
    /// taken in are not.
    pub(super) fn of(message: &'a Message) -> Result<Self, BrokerError> {
        let properties = message.header().get(PROPERTIES_OFFSET..);
        let scan = PropertyScan::new(properties.unwrap_or_default()).map_err(malformed)?;
        let headers = match scan.headers {
            Some(entries) => table::decode(entries, &Limits::default()).map_err(malformed)?,
            None => FieldTable::new(),
        };
        Ok(Self {
            routing_key: message.routing_key(),
            extra_keys: copies(&headers, "CC"),
            headers,
            identifiers: identifiers(message.header())?,
        })
    }

    /// Its routing key and those of its CC header.
    pub(super) fn keys(&self) -> Vec<&str> {
        let extra_keys = self.extra_keys.iter().map(String::as_str);
        std::iter::once(self.routing_key)
            .chain(extra_keys)
            .collect()
    }
}

/// What tells a message apart. `header` is a content header's payload.
///
/// # Errors
/// 502 if its properties are malformed.
pub(super) fn identifiers(header: &[u8]) -> Result<Identifiers<'_>, BrokerError> {
    let properties = header.get(PROPERTIES_OFFSET..).unwrap_or_default();
    let scan = IdentifierScan::new(properties).map_err(malformed)?;
    Ok(Identifiers {
        message_id: scan.message_id,
        correlation_id: scan.correlation_id,
        timestamp: scan.timestamp,
    })
}

/// A content header without BCC, as a consumer gets it.
///
/// # Errors
/// 502 if it is malformed.
pub(super) fn without_blind_copies(header: &[u8]) -> Result<Vec<u8>, BrokerError> {
    let (fixed, properties) = header
        .split_at_checked(PROPERTIES_OFFSET)
        .unwrap_or((header, &[]));
    let mut without = fixed.to_vec();
    header::without_header(properties, "BCC", &mut without).map_err(malformed)?;
    Ok(without)
}

/// RabbitMQ's check of a message TTL, with its words.
fn check_expiration(expiration: &str) -> Result<(), BrokerError> {
    let refuse = |why: String| {
        let text = format!("invalid expiration '{expiration}': {why}");
        Err(BrokerError::Precondition(text))
    };
    let (sign, unsigned) = match expiration.as_bytes().first() {
        Some(b'+' | b'-') => expiration.split_at(1),
        _ => ("", expiration),
    };
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = unsigned.split_at(digits);
    if number.is_empty() {
        return refuse("no_integer".to_owned());
    }
    if !rest.is_empty() {
        return refuse(format!("{{leftover_string,\"{rest}\"}}"));
    }
    let number = match number.trim_start_matches('0') {
        "" => "0",
        number => number,
    };
    if sign == "-" && number != "0" {
        return refuse(format!("{{value_negative,-{number}}}"));
    }
    match number.parse::<u64>() {
        Ok(0..=TIMER_MAX) => Ok(()),
        _ => refuse(format!("{{value_too_large,{number}}}")),
    }
}

fn malformed(error: DecodeError) -> BrokerError {
    BrokerError::Syntax(error.to_string())
}
