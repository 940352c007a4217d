//! Names by which clients may call the server.
//!
//! A server on the loopback without a key trusts what runs on its machine. A web browser runs there too, and a page can point a
//! name of its own at the loopback; the `Host` header then has that name.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// Which names are taken.
#[derive(Debug)]
pub(super) enum Hosts {
    /// All of them.
    Any,
    /// Those of the loopback, and these.
    Loopback(Vec<String>),
}

impl Hosts {
    /// Whether a request may come by its name. One without a name comes from no browser.
    pub(super) fn take(&self, headers: &HeaderMap) -> bool {
        let (Hosts::Loopback(more), Some(host)) = (self, headers.get(header::HOST)) else { return true };
        let name = host.to_str().map(without_port).unwrap_or_default();
        is_loopback(name) || more.iter().any(|other| other.eq_ignore_ascii_case(name))
    }
}

/// `name:port`, `[address]:port`, or either without a port.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|at| at.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn takes(hosts: &Hosts, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).expect("a header"))]);
        hosts.take(&headers)
    }

    #[test]
    fn names_of_the_loopback_and_those_allowed_are_taken() {
        let hosts = Hosts::Loopback(vec!["llm.example".into()]);
        for host in
            ["localhost", "LocalHost:8000", "127.0.0.1:80", "127.1.2.3", "[::1]:8000", "a.localhost:1", "LLM.example:8"]
        {
            assert!(takes(&hosts, host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:8000", "10.0.0.1", "[fe80::1]:80", "", "x.llm.example", "[::1"]
        {
            assert!(!takes(&hosts, host), "{host}");
            assert!(takes(&Hosts::Any, host), "{host}");
        }
        assert!(hosts.take(&HeaderMap::new()), "HTTP 1.0");
    }
}
