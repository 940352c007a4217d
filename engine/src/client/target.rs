//! Where a server is.

use std::fmt;

/// A server's address, from `http://HOST[:PORT][/PATH]`; a final `/v1` is ours to add and may be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Name or address.
    host: String,
    port: u16,
    /// What stands before `/v1`, empty or with a leading slash.
    base: String,
}

/// Why an address is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// Encryption is not built in.
    #[error("{0}: https is not supported; replay over http, from the server's own network")]
    Https(String),
    /// Something else.
    #[error("{0}: expected http://HOST:PORT, e.g. http://127.0.0.1:8000")]
    Malformed(String),
}

impl Target {
    /// Reads an address.
    ///
    /// # Errors
    /// It is none, or asks for encryption.
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        let malformed = || TargetError::Malformed(url.to_owned());
        if url.starts_with("https:") {
            return Err(TargetError::Https(url.to_owned()));
        }
        let rest = url.strip_prefix("http://").ok_or_else(malformed)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        // The last colon, unless it belongs to an address in brackets.
        let colon = authority.rfind(':').filter(|&at| !authority[at..].contains(']'));
        let (host, port) = match colon {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| malformed())?),
            None => (authority, 80),
        };
        let host = host.trim_matches(['[', ']']);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let fine = |c: char| c.is_ascii_graphic() && !"?#".contains(c);
        if host.is_empty() || !host.chars().all(plain) || !path.chars().all(fine) {
            return Err(malformed());
        }
        let path = path.trim_end_matches('/');
        let base = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        Ok(Target { host: host.to_owned(), port, base })
    }

    /// Whether it is this machine by its name or address.
    pub fn is_this_machine(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// What to connect to.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    /// A path of the server.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (url, host, port, models) in [
            ("http://localhost", "localhost", 80, "/v1/models"),
            ("http://127.0.0.1:8000/", "127.0.0.1", 8000, "/v1/models"),
            ("http://a.b-c:1/v1/", "a.b-c", 1, "/v1/models"),
            ("http://[::1]:8000/llm/v1", "::1", 8000, "/llm/v1/models"),
            ("http://[::1]", "::1", 80, "/v1/models"),
        ] {
            let target = Target::parse(url).expect(url);
            assert_eq!((target.address(), target.path("/v1/models")), ((host, port), models.to_owned()));
            assert_eq!(Target::parse(&target.to_string()), Ok(target));
        }
        for url in
            ["", "localhost:8000", "http://", "http://:80", "http://a:b", "http://a:70000", "http://a b", "http://a/?x"]
        {
            assert!(matches!(Target::parse(url), Err(TargetError::Malformed(_))), "{url}");
        }
        assert!(matches!(Target::parse("https://a"), Err(TargetError::Https(_))));
    }
}
