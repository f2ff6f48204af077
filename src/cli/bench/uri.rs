//! `amqp://user:password@host:port/vhost`, as RabbitMQ's clients read it: every part but
//! the scheme may be missing, and parts may be percent-encoded.

use anyhow::{Context, bail};

/// Where a broker listens, and as whom to log in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AmqpUri {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
}

impl AmqpUri {
    /// Reads a URI.
    ///
    /// # Errors
    /// If it is no `amqp:` URI.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("amqp://") else {
            bail!("the URI must start with amqp:// (TLS is not supported here)");
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, vhost) = match rest.split_once('/') {
            // An empty path names no vhost; `/%2F` is the usual way to write the default.
            None | Some((_, "")) => (rest.trim_end_matches('/'), "/".to_owned()),
            Some((authority, path)) => (authority, percent_decode(path)?),
        };
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login {
            "" => ("guest".to_owned(), "guest".to_owned()),
            login => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (percent_decode(user)?, percent_decode(password)?)
            }
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').context("a bracket is open")?;
                (host, port.strip_prefix(':'))
            }
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().with_context(|| format!("no port: {port}"))?,
        };
        Ok(Self {
            host: match host {
                "" => "127.0.0.1".to_owned(),
                host => percent_decode(host)?,
            },
            port,
            user,
            password,
            vhost,
        })
    }

    /// The URI without the login, for reports.
    pub fn public(&self) -> String {
        let vhost = self.vhost.replace('%', "%25").replace('/', "%2F");
        match self.host.contains(':') {
            true => format!("amqp://[{}]:{}/{vhost}", self.host, self.port),
            false => format!("amqp://{}:{}/{vhost}", self.host, self.port),
        }
    }
}

fn percent_decode(text: &str) -> anyhow::Result<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    octets.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let escape = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .with_context(|| format!("%{part} is no percent-encoding"))?;
        octets.push(escape);
        octets.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(octets).context("a part of the URI is not UTF-8")
}

const DEFAULT_PORT: u16 = 5672;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_may_be_missing() {
        for (text, host, port, user, password, vhost) in [
            ("amqp://", "127.0.0.1", 5672, "guest", "guest", "/"),
            ("amqp://h", "h", 5672, "guest", "guest", "/"),
            ("amqp://h/", "h", 5672, "guest", "guest", "/"),
            ("amqp://h:1/%2F", "h", 1, "guest", "guest", "/"),
            ("amqp://u:p@h:1/v", "h", 1, "u", "p", "v"),
            ("amqp://u@h/v%2fw", "h", 5672, "u", "", "v/w"),
            ("amqp://u%40x:p%3a@h", "h", 5672, "u@x", "p:", "/"),
            (
                "amqp://[::1]:9/v?heartbeat=3",
                "::1",
                9,
                "guest",
                "guest",
                "v",
            ),
        ] {
            let expected = AmqpUri {
                host: host.to_owned(),
                port,
                user: user.to_owned(),
                password: password.to_owned(),
                vhost: vhost.to_owned(),
            };
            assert_eq!(AmqpUri::parse(text).ok(), Some(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "http://h",
            "amqps://h",
            "amqp://h:port",
            "amqp://%zz",
            "amqp://[::1",
        ] {
            assert!(AmqpUri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reports_hide_the_login() {
        let uri = AmqpUri::parse("amqp://u:secret@h/a%2Fb").map(|uri| uri.public());
        assert_eq!(uri.ok().as_deref(), Some("amqp://h:5672/a%2Fb"));
    }
}
